// Which page is shown: the part of the address after "#"; and keys that count everywhere.
(function (featviz) {
  "use strict";
  const { element } = featviz;

  let turn = 0;
  let last_unit = null;

  async function show() {
    const mine = (turn += 1);
    const is_now = () => mine === turn;
    const page = document.getElementById("page");
    const [path, query] = split(location.hash.replace(/^#/, ""));
    const parts = path.split("/").slice(1);
    try {
      if (parts[0] === "unit" || parts[0] === "named") {
        const [kind, layer, which] = parts.map(decoded);
        const unit = await featviz.find_unit(layer || "", kind === "unit" ? Number(which) : null, which);
        if (!is_now()) return;
        featviz.leave_wall();
        last_unit = unit;
        if (unit) await featviz.show_unit(page, unit, is_now);
        else nothing(page, `There is no unit ${which || ""} of ${layer || "no layer"} in this atlas.`);
      } else if (parts[0] === "compare") {
        featviz.leave_wall();
        await featviz.show_compare(page, query, is_now);
      } else {
        const from = last_unit;
        last_unit = null;
        if (from) await featviz.units_of(from.layer);
        if (is_now()) featviz.show_wall(page, featviz.filters_in(query), from);
      }
    } catch (error) {
      if (is_now()) nothing(page, error.message);
    }
  }

  // The path and the query of a route.
  function split(route) {
    const at = route.indexOf("?");
    return at < 0 ? [route, ""] : [route.slice(0, at), route.slice(at + 1)];
  }

  function decoded(text) {
    try { return decodeURIComponent(text); } catch { return text; }
  }

  function nothing(page, words) {
    featviz.leave_wall();
    page.className = "unit";
    page.replaceChildren(element("div", { class: "title" }, element("h1", {}, "Not here"), element("p", {}, words),
      element("p", {}, element("a", { href: "#/", class: "back" }, "To the walls"))));
  }

  featviz.go_to_layer = function (number) {
    const route = featviz.filters_route(featviz.no_filters());
    const go = () => featviz.scroll_to_layer(number);
    if (location.hash === route || (location.hash === "" && route === "#/")) { go(); return; }
    featviz.forget_place();
    last_unit = null;
    window.addEventListener("hashchange", () => requestAnimationFrame(go), { once: true });
    location.hash = route;
  };

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, select, textarea")) return;
    if (event.key === "/") {
      document.getElementById("search").focus();
    } else if (event.key === "Escape" && location.hash.replace(/^#\/?/, "") !== "" && document.querySelector(".back")) {
      location.hash = document.querySelector(".back").getAttribute("href");
    } else if (event.key === "c" && document.querySelector(".compare-toggle")) {
      document.querySelector(".compare-toggle").click();
    } else {
      const link = document.querySelector(`#page [data-key="${CSS.escape(event.key)}"]`);
      if (link) location.hash = link.getAttribute("href");
      else if (!featviz.wall_key(event)) return;
    }
    event.preventDefault();
  });

  document.querySelector(".skip").addEventListener("click", (event) => {
    event.preventDefault(); // the address has the route
    document.getElementById("page").focus();
  });
  window.addEventListener("hashchange", show);
  history.scrollRestoration = "manual";
  featviz.start_search();
  show();
})(window.featviz);
