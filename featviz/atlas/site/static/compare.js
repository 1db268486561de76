// Up to four units side by side, and the tray that collects them.
(function (featviz) {
  "use strict";
  const { element, shown } = featviz;

  const MOST = 4;
  let chosen = [];

  featviz.is_compared = (unit) => chosen.includes(unit);

  featviz.toggle_compared = function (unit) {
    if (chosen.includes(unit)) chosen = chosen.filter((each) => each !== unit);
    else if (chosen.length < MOST) chosen = [...chosen, unit];
    else featviz.say(`At most ${MOST} units can be compared`);
    show_tray();
    featviz.mark_compared();
  };

  featviz.compare_route = (units) => `#/compare?${units.map((unit) => {
    const [kind, layer, which] = unit.route.slice(2).split("/");
    return `${kind}=${layer}/${which}`;
  }).join("&")}`;

  function show_tray() {
    const tray = document.getElementById("tray");
    tray.hidden = chosen.length === 0;
    document.body.classList.toggle("has-tray", chosen.length > 0);
    if (chosen.length === 0) { tray.replaceChildren(); return; }
    featviz.say(`${chosen.length} of ${MOST} units to compare`);
    tray.replaceChildren(
      ...chosen.map((unit) => {
        const square = element("span", { class: "thumb", role: "img", "aria-label": `Picture of ${unit.title}` });
        featviz.show_thumbnail(square, unit.pictures[0], 40);
        return element("button", { type: "button", class: "chip", title: `Take ${unit.title} away`, onclick: () => featviz.toggle_compared(unit) },
          square, element("span", { class: "caption" }, unit.title), element("span", { "aria-hidden": "true" }, "×"));
      }),
      element("a", { class: "button strong", href: featviz.compare_route(chosen) }, `Compare ${chosen.length}`),
      element("button", { type: "button", class: "plain", onclick: () => { chosen = []; show_tray(); featviz.mark_compared(); } }, "Clear"));
  }

  // The units of an address such as "unit=blocks.4/17&named=blocks.4/wheel".
  async function units_in(query) {
    const parts = query.split("&").map((part) => /^(unit|named)=([^/]*)\/(.*)$/.exec(part)).filter(Boolean).slice(0, MOST);
    const found = await Promise.all(parts.map(([, kind, layer, which]) =>
      featviz.find_unit(decodeURIComponent(layer), kind === "unit" ? Number(which) : null, decodeURIComponent(which))));
    return found.filter(Boolean);
  }

  featviz.show_compare = async function (page, query, is_now) {
    const units = await units_in(query);
    const details = await Promise.all(units.map(featviz.details_of));
    if (!is_now()) return;
    chosen = units;
    show_tray();
    const measures = featviz.atlas.measures.filter((each) => details.some((detail) => each.key in detail.pictures[0].evidence));
    const cells = (name, given, inside) => units.map((unit, place) => element(name, given, inside(unit, details[place])));
    page.className = "compare";
    page.replaceChildren(
      element("div", { class: "title" }, element("p", { class: "crumbs" }, element("a", { href: featviz.wall_route(), class: "back" }, "Walls")),
        element("h1", {}, units.length ? "Side by side" : "Nothing to compare"),
        units.length === 0 && element("p", { class: "note" }, "Choose units on the walls with shift-click or the key c, or with the button on their pages.")),
      element("div", { class: "scroll" }, element("table", { class: "side-by-side", "data-count": units.length },
        element("thead", {}, element("tr", {}, element("td", {}), cells("th", { scope: "col" }, (unit) => element("a", { href: unit.route }, unit.title)))),
        element("tbody", {},
          element("tr", {}, element("th", { scope: "row" }, "Pictures"), cells("td", { class: "pictures" }, (unit, detail) =>
            unit.pictures.map((picture, place) => featviz.figure_of(unit, picture, detail.pictures[place])))),
          element("tr", {}, element("th", { scope: "row" }, "Verdict"), cells("td", {}, (unit) => unit.pictures[0].verdict)),
          measures.map((each) => element("tr", {}, element("th", { scope: "row", title: each.words.replace(/ ?\(\{\w+\}\)/g, "").replace(/ \{\w+\}/g, "") }, each.label),
            cells("td", { class: "value" }, (_, detail) => shown(detail.pictures[0].evidence[each.key])))),
          element("tr", {}, element("th", { scope: "row" }, "Course"), cells("td", {}, (_, detail) =>
            featviz.course_plot(detail.pictures[0].course, detail.pictures[0].stride, detail.pictures[0].steps)))))));
    document.title = `Side by side: ${featviz.atlas.network}`;
    window.scrollTo(0, 0);
  };
})(window.featviz);
