// What walls show and in which order: read from and written to the address.
(function (featviz) {
  "use strict";
  const { element } = featviz;

  const NOTHING = { layer: "", technique: "", verdict: "", rank: "", flag: "", sort: "", order: "", tile: "" };
  const RANKS = { "top-1": (rank) => rank === 0, "top-5": (rank) => rank < 5, "not-top-1": (rank) => rank > 0, "not-top-5": (rank) => rank >= 5 };

  featviz.no_filters = () => ({ ...NOTHING });

  featviz.filters_in = function (query) {
    const given = new URLSearchParams(query);
    const found = featviz.no_filters();
    for (const key of Object.keys(found)) if (given.has(key)) found[key] = given.get(key);
    return found;
  };

  featviz.filters_route = function (filters) {
    const given = new URLSearchParams();
    for (const [key, value] of Object.entries(filters)) if (value !== "") given.set(key, value);
    const query = given.toString();
    return query ? `#/?${query}` : "#/";
  };

  // Whether units have to be looked at to know which are shown.
  featviz.looks_at_units = (filters) =>
    ["technique", "verdict", "rank", "flag"].some((key) => filters[key] !== "");

  // The picture that a unit shows, or null where the filters leave it out.
  featviz.picture_under = function (unit, filters) {
    const picture = filters.technique === ""
      ? unit.pictures[0]
      : unit.pictures.find((each) => each.technique === filters.technique);
    if (!picture) return null;
    if (filters.verdict !== "" && picture.verdict !== filters.verdict) return null;
    const has_rank = typeof picture.rank === "number";
    if (filters.rank in RANKS && !(has_rank && RANKS[filters.rank](picture.rank))) return null;
    if (filters.flag === "flagged" && picture.path_flag !== true) return null;
    if (filters.flag === "clear" && picture.path_flag !== false) return null;
    return picture;
  };

  // Units with their pictures, in order; those without the number come last.
  featviz.in_order = function (units, filters) {
    const shown = [];
    for (const unit of units) {
      const picture = featviz.picture_under(unit, filters);
      if (picture) shown.push({ unit, picture });
    }
    const key = filters.sort;
    if (key === "") return shown;
    const sign = filters.order === "up" ? 1 : -1;
    const value = (each) => each.picture[key];
    const lacks = (each) => typeof value(each) !== "number";
    return shown.sort((one, other) => lacks(one) - lacks(other)
      || (lacks(one) ? 0 : sign * (value(one) - value(other))) || one.unit.place - other.unit.place);
  };

  // The row of controls; `change(filters)` is told of each change.
  featviz.filter_bar = function (filters, change) {
    const { atlas } = featviz;
    const choice = (key, label, options) => element("label", {},
      element("span", {}, label),
      element("select", { name: key, onchange: (event) => change({ ...filters, [key]: event.target.value }) },
        options.map(([value, text]) => element("option", { value, selected: filters[key] === value }, text))));
    const words = (all, list) => [["", all], ...list.map((each) => [each, each])];
    const measures = atlas.measures.filter((each) => atlas.measured.includes(each.key));
    const has = (key) => atlas.measured.includes(key);
    return element("div", { class: "filters", role: "group", "aria-label": "Filter and sort" },
      choice("layer", "Layer", [["", "all layers"], ...atlas.layers.map((each) => [each.name === "" ? "-" : each.name, featviz.layer_label(each.name)])]),
      atlas.techniques.length > 1 && choice("technique", "Technique", words("first of each", atlas.techniques)),
      choice("verdict", "Verdict", words("any", atlas.verdicts)),
      has("rank") && choice("rank", "Rank", [["", "any"], ["top-1", "top 1"], ["top-5", "top 5"], ["not-top-1", "not top 1"], ["not-top-5", "not top 5"]]),
      has("path_flag") && choice("flag", "Path", [["", "any"], ["flagged", "flagged"], ["clear", "clear"]]),
      choice("sort", "Sort by", [["", "channel"], ...measures.map((each) => [each.key, each.label.toLowerCase()])]),
      filters.sort !== "" && choice("order", "Order", [["", "highest first"], ["up", "lowest first"]]),
      choice("tile", "Size", [["", "64 px"], ["96", "96 px"], ["128", "128 px"]]));
  };
})(window.featviz);
