// Where everything on the walls is, in pixels, without an element for it: one section a layer.
(function (featviz) {
  "use strict";

  const GAP_PX = 4;
  const CAPTION_PX = 14;
  const HEAD_PX = 64;
  const BELOW_PX = 14;

  // Sections below each other: `counts` of units, by layer; sections without any take no room.
  // Tiles have a side of `smallest`, or a little more where they are to fill the width.
  featviz.layout = function (counts, { width, smallest, is_filled }) {
    const columns = Math.max(1, Math.floor((width + GAP_PX) / (smallest + GAP_PX)));
    const tile = is_filled ? Math.floor((width + GAP_PX) / columns) - GAP_PX : smallest;
    const pitch = tile + CAPTION_PX + GAP_PX;
    const sections = [];
    let top = 0;
    for (const { number, count } of counts) {
      if (count === 0) continue;
      const rows = Math.ceil(count / columns);
      const height = HEAD_PX + rows * pitch + BELOW_PX;
      sections.push({ number, count, rows, top, height });
      top += height;
    }
    return { columns, pitch, tile, sections, height: top, width };
  };

  // The sections that reach into the stripe from `top` to `bottom`.
  featviz.sections_within = function (layout, top, bottom) {
    let low = 0;
    let high = layout.sections.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      const section = layout.sections[middle];
      if (section.top + section.height <= top) low = middle + 1;
      else high = middle;
    }
    let end = low;
    while (end < layout.sections.length && layout.sections[end].top < bottom) end += 1;
    return layout.sections.slice(low, end);
  };

  // First and one past the last place of a section's units within the stripe.
  featviz.places_within = function (layout, section, top, bottom) {
    const start = section.top + HEAD_PX;
    const first = Math.max(0, Math.floor((top - start) / layout.pitch));
    const last = Math.min(section.rows, Math.ceil((bottom - start) / layout.pitch));
    return [first * layout.columns, Math.max(first * layout.columns, Math.min(section.count, last * layout.columns))];
  };

  featviz.place_px = function (layout, section, place) {
    return {
      left: (place % layout.columns) * (layout.tile + GAP_PX),
      top: section.top + HEAD_PX + Math.floor(place / layout.columns) * layout.pitch,
    };
  };

  // The place to which an arrow key leads: {section, place}, or null at an end.
  featviz.step_from = function (layout, at, key) {
    const index = layout.sections.findIndex((each) => each.number === at.number);
    if (index < 0) return null;
    const section = layout.sections[index];
    const { columns } = layout;
    const go = (to, place) => layout.sections[to]
      ? { number: layout.sections[to].number, place: Math.max(0, Math.min(layout.sections[to].count - 1, place)) } : null;
    const column = at.place % columns;
    switch (key) {
      case "ArrowRight": return at.place + 1 < section.count ? go(index, at.place + 1) : go(index + 1, 0);
      case "ArrowLeft": return at.place > 0 ? go(index, at.place - 1) : go(index - 1, Infinity);
      case "ArrowDown":
        if (Math.floor(at.place / columns) + 1 < section.rows) return go(index, at.place + columns);
        return go(index + 1, column);
      case "ArrowUp": {
        if (at.place >= columns) return go(index, at.place - columns);
        const above = layout.sections[index - 1];
        return above ? go(index - 1, (above.rows - 1) * columns + column) : null;
      }
      case "Home": return go(index, 0);
      case "End": return go(index, section.count - 1);
      default: return null;
    }
  };
})(window.featviz);
