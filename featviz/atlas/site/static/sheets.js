// Sprite sheets: a thumbnail as the background of an element, shown when its sheet is there.
(function (featviz) {
  "use strict";

  const MOST_HELD = 24; // sheets whose images are kept from the browser's cleaning
  const held = new Map(); // number -> {image, ready, promise}, the longest unused first

  // Fetches a sheet; the promise ends when it can be painted at once.
  function fetch_sheet(number) {
    let sheet = held.get(number);
    if (sheet) {
      held.delete(number);
      held.set(number, sheet);
      return sheet;
    }
    const image = new Image();
    image.src = featviz.atlas.sheets[number];
    sheet = { image, ready: false };
    sheet.promise = image.decode().then(
      () => { sheet.ready = true; },
      () => { held.delete(number); },
    );
    held.set(number, sheet);
    if (held.size > MOST_HELD) held.delete(held.keys().next().value);
    return sheet;
  }

  featviz.prefetch = function (thumbnail) {
    const number = Math.floor(thumbnail / featviz.atlas.sheet.cells);
    if (number < featviz.atlas.sheets.length) fetch_sheet(number);
  };

  // Shows a picture's thumbnail in an element of `side` pixels. Well above the thumbnail's own
  // size the picture itself is laid over it.
  featviz.show_thumbnail = function (element, picture, side) {
    const { columns, cells, cell_px } = featviz.atlas.sheet;
    const number = Math.floor(picture.thumbnail / cells);
    const cell = picture.thumbnail % cells;
    const position = `-${(cell % columns) * side}px -${Math.floor(cell / columns) * side}px`;
    const sheet = fetch_sheet(number);
    const style = element.style;
    style.backgroundColor = `#${picture.color}`;
    const paint = () => {
      if (element.dataset.file !== picture.file) return; // it shows something else by now
      const source = `url("${featviz.atlas.sheets[number]}")`;
      const is_large = side >= 1.4 * cell_px;
      style.backgroundImage = is_large ? `url("${picture.file}"), ${source}` : source;
      style.backgroundPosition = is_large ? `0 0, ${position}` : position;
      style.backgroundSize = is_large ? `100% 100%, ${columns * side}px auto` : `${columns * side}px auto`;
      element.dataset.ready = "";
    };
    element.dataset.file = picture.file;
    if (sheet.ready) {
      paint();
    } else {
      delete element.dataset.ready;
      style.backgroundImage = "none";
      sheet.promise.then(paint);
    }
  };

  // A thumbnail that links to its unit.
  featviz.thumbnail_link = function (unit, label) {
    const picture = unit.pictures[0];
    const square = featviz.element("span", { class: "thumb", role: "img", "aria-label": `Picture of ${unit.title}` });
    featviz.show_thumbnail(square, picture, featviz.atlas.sheet.cell_px);
    return featviz.element("a", { class: "mini", href: unit.route }, square,
      featviz.element("span", { class: "caption" }, label || unit.title));
  };
})(window.featviz);
