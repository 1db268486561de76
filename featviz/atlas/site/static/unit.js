// A unit's page: its pictures, and of the chosen one the evidence, the course and the recipe.
(function (featviz) {
  "use strict";
  const { element, shown } = featviz;

  // What tells a picture from the others of its unit: its place in a set, its seed, what is read.
  function name_of(unit, picture, detail) {
    const alike = unit.pictures.filter((each) => each.technique === picture.technique).length;
    const words = [picture.technique];
    if (detail.count > 1) words.push(`${detail.index + 1} of ${detail.count}`);
    if (alike > (detail.count || 1)) words.push(`seed ${detail.seed}`);
    if (detail.address.includes("/pre:")) words.push(detail.address);
    return words.join(" · ");
  }

  // A picture as large as the page lets it be, with its words.
  featviz.figure_of = function (unit, picture, detail) {
    const shape = detail.shape || {};
    const words = [name_of(unit, picture, detail), picture.verdict === "rendered" ? "" : picture.verdict];
    return element("figure", { class: `picture${picture.verdict === "rendered" ? "" : " failed"}` },
      element("img", {
        src: picture.file, width: shape.columns || null, height: shape.rows || null, loading: "lazy",
        alt: `Picture that ${picture.technique === "negative" ? "least" : "most"} excites ${detail.address} (${name_of(unit, picture, detail)})`,
      }),
      element("figcaption", {}, words.filter((each) => each !== "").join(" · "),
        element("span", { class: "figure" }, shown(picture.score))));
  };

  // Sentences of a picture's numbers; {key} in the words is another number of it.
  featviz.evidence_table = function (evidence) {
    const measures = featviz.atlas.measures.filter((each) => each.key in evidence);
    const sentence = (words) => words.replace(/\{(\w+)\}/g, (_, key) => shown(evidence[key]));
    const flag = evidence.path_flag;
    return element("dl", { class: "evidence" },
      measures.map((each) => element("div", { "data-measure": each.key },
        element("dt", {}, each.label),
        element("dd", { class: "value" }, shown(evidence[each.key])),
        element("dd", { class: "words" }, sentence(each.words)))),
      flag !== undefined && element("div", { class: flag ? "flagged" : "" },
        element("dt", {}, "Path flag"), element("dd", { class: "value" }, flag ? "flagged" : "clear"),
        element("dd", { class: "words" }, flag
          ? "Earlier layers see this picture unlike the unit's best natural images: be careful with what it seems to show."
          : "Earlier layers see this picture as they see the unit's best natural images.")));
  };

  // The reference images that say most to what the picture was made for, best first.
  function exemplars(detail) {
    if (detail.exemplars.length === 0) return null;
    return element("section", { class: "exemplars" }, element("h2", {}, "Best natural images"),
      element("p", { class: "note" }, `Of the reference images (${detail.evidence.references}), those with the highest score, cropped to a square around the center.`),
      element("div", { class: "photographs", "data-kind": "exemplars" }, detail.exemplars.map(([source, file, value]) => element("figure", {},
        source && element("img", { src: source, width: 128, height: 128, loading: "lazy", alt: `Reference image ${file}` }),
        element("figcaption", {}, shown(value), element("span", { class: "file" }, file))))));
  }

  featviz.remake_command = (picture) => `featviz render --recipe ${picture.file} --out again`;

  function about(unit, picture, detail) {
    const recipe = () => JSON.stringify(detail.recipe);
    const command = featviz.remake_command(picture);
    const made = [`${detail.steps} steps`, detail.seconds ? `${shown(detail.seconds)} s` : "", detail.made.replace("T", " ").replace("+00:00", " UTC")];
    const plot = featviz.course_plot(detail.course, detail.stride, detail.steps);
    return [
      picture.verdict !== "rendered" && element("p", { class: "warning" }, `${picture.verdict}: ${detail.reason}`),
      element("section", {}, element("h2", {}, unit.pictures.length > 1 ? `Evidence: ${name_of(unit, picture, detail)}` : "Evidence"), featviz.evidence_table(detail.evidence)),
      exemplars(detail),
      element("section", {}, element("h2", {}, "Course"), plot || element("p", { class: "note" }, "Too short to draw."),
        element("p", { class: "note" }, made.filter((each) => each !== "").join(" · "))),
      element("section", {}, element("h2", {}, "Recipe"),
        element("p", { class: "note" }, "In the folder of this site or of the atlas, this makes the picture again:"),
        element("div", { class: "code" }, element("code", { class: "command" }, command), featviz.copy_button("Copy command", () => command)),
        element("details", {}, element("summary", {}, "The recipe and how it was executed"),
          element("pre", {}, JSON.stringify(detail.recipe, null, 1)),
          element("pre", {}, JSON.stringify(detail.execution, null, 1))),
        element("div", { class: "row" }, featviz.copy_button("Copy recipe", recipe),
          element("a", { class: "button", href: picture.file, download: "" }, "Picture file"))),
    ];
  }

  function neighbour(unit, words, key) {
    if (!unit) return element("span", { class: "button off", "aria-disabled": "true" }, words);
    return element("a", { class: "button", href: unit.route, "data-key": key, rel: key === "ArrowLeft" ? "prev" : "next", title: unit.title }, words);
  }

  // Shows the page; resolves to the unit.
  featviz.show_unit = async function (page, unit, is_now) {
    const units = await featviz.units_of(unit.layer);
    const detail = await featviz.details_of(unit);
    if (!is_now()) return;
    const layer = featviz.atlas.layers[unit.layer];
    const side = element("div", { class: "about" });
    const choose = (place) => {
      side.replaceChildren(...about(unit, unit.pictures[place], detail.pictures[place]).filter(Boolean));
      figures.forEach((each, other) => each.setAttribute("aria-pressed", String(other === place)));
    };
    const figures = unit.pictures.map((picture, place) => element("button", { type: "button", class: "choose", onclick: () => choose(place) },
      featviz.figure_of(unit, picture, detail.pictures[place])));
    const compare = element("button", { type: "button", class: "compare-toggle", onclick: () => { featviz.toggle_compared(unit); mark(); } });
    const mark = () => { compare.textContent = featviz.is_compared(unit) ? "Do not compare" : "Compare"; };
    mark();
    const facts = [layer.kind, ...featviz.layer_facts(layer)].filter(Boolean).join(" · ");
    const here = element("a", { href: featviz.wall_route(), class: "back" }, "Walls");
    const similar = element("div", { class: "minis", "data-kind": "similar" });
    const near = units.slice(Math.max(0, unit.place - 4), unit.place + 5);
    page.className = "unit";
    page.replaceChildren(
      element("div", { class: "title" },
        element("p", { class: "crumbs" }, here, " / ", element("a", { href: featviz.filters_route({ ...featviz.no_filters(), layer: layer.name || "-" }) }, featviz.layer_label(layer.name))),
        element("h1", {}, unit.title), element("p", { class: "note" }, facts),
        element("div", { class: "row" }, neighbour(units[unit.place - 1], "← Previous", "ArrowLeft"), neighbour(units[unit.place + 1], "Next →", "ArrowRight"), compare)),
      element("div", { class: "columns" },
        element("div", { class: `pictures${figures.length === 1 ? " single" : ""}`, role: "group", "aria-label": "Pictures" }, figures), side),
      element("section", {}, element("h2", {}, "Beside it in the layer"), element("div", { class: "minis", "data-kind": "near" },
        near.map((each) => {
          const link = featviz.thumbnail_link(each, each.channel === null ? each.title : String(each.channel));
          if (each === unit) link.setAttribute("aria-current", "page");
          return link;
        }))),
      detail.similar.length > 0 && element("section", {}, element("h2", {}, "Pictures that look most alike"), similar) || "");
    choose(0);
    document.title = `${unit.title}: ${featviz.atlas.network}`;
    window.scrollTo(0, 0);
    const others = await Promise.all(detail.similar.map(async ([number, place]) => (await featviz.units_of(number))[place]));
    if (is_now()) similar.replaceChildren(...others.map((each) => featviz.thumbnail_link(each)));
  };
})(window.featviz);
