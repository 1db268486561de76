// The network page: the map of its layers, and a wall for each; only what is in view has elements.
(function (featviz) {
  "use strict";
  const { element } = featviz;

  const AHEAD_SCREENS = 0.35; // have elements
  const PREFETCH_SCREENS = 2.5; // have their data and sheets
  let wall = null;
  let kept = { route: "#/", top: 0, current: null }; // of the wall that was left

  featviz.wall_route = () => kept.route;
  featviz.leave_wall = function () {
    if (!wall) return;
    kept = { route: wall.route, top: window.scrollY, current: wall.current };
    wall.observer.disconnect();
    wall = null;
  };
  featviz.forget_place = () => { kept.current = null; };

  // Shows the walls; `from` is the unit whose page was left, or null.
  featviz.show_wall = function (page, filters, from) {
    const route = featviz.filters_route(filters);
    const is_back = route === kept.route && kept.current !== null;
    featviz.leave_wall();
    const space = element("div", { class: "space", role: "list", "aria-label": "Units" });
    const note = element("p", { class: "note status", role: "status" });
    const layers = element("nav", { class: "map", "aria-label": "Layers" });
    wall = {
      filters, route, space, note, layers, elements: new Map(), spare: [], orders: [], layout: null, frame: 0,
      current: is_back ? kept.current : null, observer: new ResizeObserver(() => {
        if (wall && wall.space.clientWidth !== wall.layout.width) arrange();
      }),
    };
    page.className = "network";
    page.replaceChildren(
      element("details", { class: "side", open: !is_narrow() }, element("summary", {}, "Layers"), layers),
      element("div", { class: "walls" },
        featviz.filter_bar(filters, (changed) => { kept.current = null; location.hash = featviz.filters_route(changed); }),
        note, legend(), space));
    document.title = `${featviz.atlas.network}: atlas of units`;
    show_map();
    arrange();
    window.scrollTo(0, is_back ? kept.top : 0);
    paint();
    if (from) return_from(from);
    else if (is_back) focus_on(wall.current);
    wall.observer.observe(space);
    if (featviz.looks_at_units(filters)) look_at_all();
  };

  // What the marks of tiles mean, those that there are.
  function legend() {
    const { verdicts, measured } = featviz.atlas;
    const words = [verdicts.some((each) => each !== "rendered") && "Red: no picture came about.",
      measured.includes("path_flag") && "Dot: earlier layers see the picture unlike the unit's best natural images."];
    return element("p", { class: "note" }, words.filter(Boolean).join(" "));
  }

  const is_narrow = () => window.innerWidth < 760;
  const tile_px = () => Number(wall.filters.tile) || featviz.atlas.sheet.cell_px;
  const is_shown = (number) => wall.filters.layer === "" || featviz.atlas.layers[number].name === (wall.filters.layer === "-" ? "" : wall.filters.layer);

  function show_map() {
    const { atlas } = featviz;
    const side = atlas.input[0] || 1;
    wall.layers.replaceChildren(...atlas.layers.map((layer, number) => {
      const field = element("i", { class: "field", "aria-hidden": "true" });
      const share = layer.field ? Math.min(1, layer.field[0] / side) * 100 : 100;
      field.style.backgroundSize = `${share}% ${share}%`;
      const name = featviz.layer_label(layer.name);
      return element("a", { href: wall.route, "data-layer": number, title: featviz.layer_facts(layer).join(", "), onclick: (event) => {
        event.preventDefault();
        if (is_narrow()) wall.layers.parentElement.open = false;
        if (!is_shown(number)) { location.hash = featviz.filters_route({ ...wall.filters, layer: "" }); return; }
        scroll_to_layer(number);
      } }, field, element("b", {}, name), element("span", {}, featviz.layer_facts(layer).join(" · ").replace("tied ×", "×")));
    }));
  }

  function scroll_to_layer(number) {
    const section = wall.layout.sections.find((each) => each.number === number);
    if (section) window.scrollTo(0, offset() + section.top - head_px());
  }
  featviz.scroll_to_layer = (number) => wall && scroll_to_layer(number);

  const head_px = () => document.querySelector(".top").offsetHeight;
  const offset = () => wall.space.getBoundingClientRect().top + window.scrollY;

  // The units that a layer shows, in order; null until its data is here and in the layout.
  function order_of(number) {
    return wall.orders[number] || null;
  }

  function take_order(number) {
    if (!wall.orders[number] && featviz.layers[number]) {
      wall.orders[number] = featviz.in_order(featviz.layers[number], wall.filters);
    }
    return order_of(number);
  }

  function arrange() {
    if (!wall) return;
    const counts = featviz.atlas.layers.map((layer, number) => {
      const order = is_shown(number) ? take_order(number) : null;
      return { number, count: !is_shown(number) ? 0 : order ? order.length : layer.units };
    });
    wall.layout = featviz.layout(counts, { width: wall.space.clientWidth, smallest: tile_px(), is_filled: is_narrow() });
    wall.space.style.height = `${wall.layout.height}px`;
    wall.space.style.setProperty("--tile", `${wall.layout.tile}px`);
    const has_focus = wall.space.contains(document.activeElement);
    for (const each of wall.elements.values()) put_away(each);
    wall.elements.clear();
    const total = counts.reduce((sum, each) => sum + each.count, 0);
    const all = featviz.atlas.layers.reduce((sum, each) => sum + each.units, 0);
    wall.note.textContent = total === 0 ? "No unit is left by these filters."
      : total === all ? `${all} units in ${featviz.atlas.layers.length} layers` : `${total} of ${all} units`;
    if (!wall.current && wall.layout.sections.length) wall.current = { number: wall.layout.sections[0].number, place: 0 };
    paint();
    if (has_focus) focus_on(wall.current);
  }

  async function look_at_all() {
    const mine = wall;
    const waiting = featviz.atlas.layers.map((_, number) => number).filter((number) => is_shown(number) && !featviz.layers[number]);
    if (waiting.length === 0) return;
    mine.note.textContent = "Reading all layers …";
    const results = await Promise.allSettled(waiting.map(featviz.units_of));
    if (wall !== mine) return;
    arrange();
    const failed = results.find((each) => each.status === "rejected");
    if (failed) wall.note.textContent = failed.reason.message;
  }

  function fetch_layer(number) {
    const mine = wall;
    featviz.units_of(number).then(() => {
      if (wall !== mine) return;
      const section = wall.layout.sections.find((each) => each.number === number);
      if (section && section.count !== take_order(number).length) arrange();
      else schedule();
    }, (error) => { if (wall === mine) wall.note.textContent = error.message; });
  }

  function schedule() {
    if (wall && !wall.frame) wall.frame = requestAnimationFrame(() => { if (wall) { wall.frame = 0; paint(); } });
  }
  window.addEventListener("scroll", schedule, { passive: true });

  // Makes the elements of what is in view, and takes away the others.
  function paint() {
    const { layout } = wall;
    const screen = window.innerHeight;
    const top = window.scrollY - offset();
    const [from, to] = [top - AHEAD_SCREENS * screen, top + (1 + AHEAD_SCREENS) * screen];
    const wanted = new Map();
    for (const section of featviz.sections_within(layout, from, to)) {
      wanted.set(`head ${section.number}`, { section, place: -1 });
      const order = order_of(section.number);
      if (!order) { fetch_layer(section.number); continue; }
      const [first, last] = featviz.places_within(layout, section, from, to);
      for (let place = first; place < last; place += 1) wanted.set(`${section.number} ${place}`, { section, place });
    }
    for (const [key, each] of wall.elements) {
      if (wanted.has(key) || each.contains(document.activeElement)) continue;
      wall.elements.delete(key);
      put_away(each);
    }
    for (const [key, { section, place }] of wanted) {
      if (wall.elements.has(key)) continue;
      const made = place < 0 ? head_of(section) : tile_of(section, place);
      wall.elements.set(key, made);
      if (!made.parentNode) wall.space.append(made);
    }
    prefetch(top - PREFETCH_SCREENS * screen, top + (1 + PREFETCH_SCREENS) * screen);
    mark_layer(top);
  }

  function put_away(each) {
    if (each.classList.contains("tile") && wall.spare.length < 200) wall.spare.push(each);
    each.remove();
  }

  function prefetch(from, to) {
    const { layout } = wall;
    for (const section of featviz.sections_within(layout, from, to)) {
      const order = order_of(section.number);
      if (!order) { fetch_layer(section.number); continue; }
      const [first, last] = featviz.places_within(layout, section, from, to);
      for (let place = first; place < last; place += layout.columns) featviz.prefetch(order[place].picture.thumbnail);
      if (last > first) featviz.prefetch(order[last - 1].picture.thumbnail);
    }
  }

  function mark_layer(top) {
    const [section] = featviz.sections_within(wall.layout, top + head_px() + 8, Infinity);
    for (const each of wall.layers.children) {
      const is_here = section !== undefined && Number(each.dataset.layer) === section.number;
      if (is_here === each.hasAttribute("aria-current")) continue;
      if (is_here) {
        each.setAttribute("aria-current", "location");
        const box = wall.layers.getBoundingClientRect();
        const mine = each.getBoundingClientRect();
        if (mine.top < box.top) wall.layers.scrollTop -= box.top - mine.top;
        else if (mine.bottom > box.bottom) wall.layers.scrollTop += mine.bottom - box.bottom;
      } else {
        each.removeAttribute("aria-current");
      }
    }
  }

  function head_of(section) {
    const layer = featviz.atlas.layers[section.number];
    const kind = layer.kind ? `${layer.kind}${layer.is_view ? " (view)" : ""}` : "";
    const words = [kind, ...featviz.layer_facts(layer)].filter((each) => each !== "");
    const count = section.count === layer.channels ? "" : `${section.count} shown`;
    const made = element("div", { class: "layer-head" },
      element("h2", {}, featviz.layer_label(layer.name)),
      element("p", {}, [...words, count].filter((each) => each !== "").join(" · ")));
    made.style.transform = `translateY(${section.top}px)`;
    return made;
  }

  function tile_of(section, place) {
    const { unit, picture } = order_of(section.number)[place];
    const { filters, layout } = wall;
    const made = wall.spare.pop() || element("a", { role: "listitem" });
    const name = unit.channel === null ? unit.title : String(unit.channel);
    const value = filters.sort === "" ? "" : featviz.shown(picture[filters.sort]);
    const { left, top } = featviz.place_px(layout, section, place);
    made.className = `tile${picture.verdict === "rendered" ? "" : " failed"}${picture.path_flag === true ? " flagged" : ""}`;
    made.href = unit.route;
    made.dataset.at = `${section.number} ${place}`;
    made.dataset.caption = value === "" ? name : `${name}: ${value}`;
    made.setAttribute("aria-label", [`Picture of ${unit.title}`, picture.technique, picture.verdict === "rendered" ? "" : picture.verdict,
      typeof picture.rank === "number" ? `rank ${picture.rank}` : ""].filter((each) => each !== "").join(", "));
    made.title = made.getAttribute("aria-label").replace("Picture of ", "");
    made.tabIndex = wall.current && wall.current.number === section.number && wall.current.place === place ? 0 : -1;
    made.classList.toggle("chosen", featviz.is_compared(unit));
    made.style.transform = `translate(${left}px, ${top}px)`;
    featviz.show_thumbnail(made, picture, layout.tile);
    return made;
  }

  // Focuses the unit whose page was left, and scrolls to it if it is out of view.
  function return_from(unit) {
    const section = wall.layout.sections.find((each) => each.number === unit.layer);
    const order = section ? order_of(unit.layer) : null;
    const place = order ? order.findIndex((each) => each.unit === unit) : -1;
    if (place < 0) return;
    const top = offset() + featviz.place_px(wall.layout, section, place).top;
    const is_in_view = top > window.scrollY + head_px() && top + wall.layout.pitch < window.scrollY + window.innerHeight;
    if (!is_in_view) window.scrollTo(0, Math.max(0, top - window.innerHeight / 3));
    wall.current = { number: unit.layer, place };
    paint();
    focus_on(wall.current);
  }

  function focus_on(at) {
    const target = wall.elements.get(`${at.number} ${at.place}`);
    for (const each of wall.elements.values()) if (each.tabIndex === 0) each.tabIndex = -1;
    if (!target) return;
    target.tabIndex = 0;
    target.focus({ preventScroll: true });
  }

  // Keys on the wall; true where one was used.
  featviz.wall_key = function (event) {
    if (!wall) return false;
    const focused = document.activeElement;
    const is_on_tile = focused && focused.classList.contains("tile");
    if (!is_on_tile && !["ArrowDown", "ArrowRight"].includes(event.key)) return false;
    if (!is_on_tile && focused !== document.body && focused.id !== "page") return false;
    if (is_on_tile && event.key === "c") {
      const [number, place] = focused.dataset.at.split(" ").map(Number);
      featviz.toggle_compared(order_of(number)[place].unit);
      return true;
    }
    const first = featviz.sections_within(wall.layout, window.scrollY - offset() + head_px(), Infinity)[0];
    const [number, place] = is_on_tile ? focused.dataset.at.split(" ").map(Number) : [first ? first.number : -1, -1];
    const to = is_on_tile ? featviz.step_from(wall.layout, { number, place }, event.key) : first && { number, place: 0 };
    if (!to) return false;
    wall.current = to;
    const section = wall.layout.sections.find((each) => each.number === to.number);
    const y = offset() + featviz.place_px(wall.layout, section, to.place).top;
    if (y < window.scrollY + head_px() + 4) window.scrollTo(0, y - head_px() - 68);
    else if (y + wall.layout.pitch > window.scrollY + window.innerHeight - 8) window.scrollTo(0, y + wall.layout.pitch - window.innerHeight + 8);
    paint();
    focus_on(to);
    return true;
  };

  document.addEventListener("focusin", (event) => {
    if (wall && event.target.dataset && event.target.dataset.at) {
      const [number, place] = event.target.dataset.at.split(" ").map(Number);
      wall.current = { number, place };
    }
  });
  document.addEventListener("click", (event) => {
    const tile = event.target.closest(".tile");
    if (!wall || !tile) return;
    const [number, place] = tile.dataset.at.split(" ").map(Number);
    wall.current = { number, place };
    if (event.shiftKey) {
      event.preventDefault();
      featviz.toggle_compared(order_of(number)[place].unit);
    }
  });
  featviz.mark_compared = function () {
    if (!wall) return;
    for (const each of wall.elements.values()) {
      if (!each.dataset.at) continue;
      const [number, place] = each.dataset.at.split(" ").map(Number);
      each.classList.toggle("chosen", featviz.is_compared(order_of(number)[place].unit));
    }
  };
})(window.featviz);
