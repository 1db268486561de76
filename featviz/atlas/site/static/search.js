// Search by address: "blocks.4:17", part of a layer's name, part of a title.
(function (featviz) {
  "use strict";
  const { element } = featviz;

  const MOST = 12;
  let found = [];
  let chosen = -1;
  let asked = 0;

  // What a text may mean: layers, and units with their routes.
  async function search(text) {
    const { atlas } = featviz;
    const wanted = text.trim().toLowerCase();
    if (wanted === "") return [];
    const [, layer_part, channel_part] = /^(.*?)(?:[:/#\s](\d*))?$/s.exec(wanted);
    const by_name = (part) => atlas.layers.map((layer, number) => ({ layer, number }))
      .filter(({ layer }) => layer.name.toLowerCase().includes(part))
      .sort((one, other) => one.layer.name.length - other.layer.name.length || one.number - other.number);
    const results = [];
    if (channel_part !== undefined) {
      for (const { layer, number } of by_name(layer_part).slice(0, MOST)) {
        const units = await featviz.units_of(number).catch(() => []);
        for (const unit of units) {
          if (unit.channel === null || !String(unit.channel).startsWith(channel_part)) continue;
          results.push({ text: unit.title, unit, is_exact: String(unit.channel) === channel_part && layer.name.toLowerCase() === layer_part });
          if (results.length > 200) break;
        }
      }
      results.sort((one, other) => Number(other.is_exact) - Number(one.is_exact));
    }
    for (const { layer, number } of by_name(wanted)) {
      if (layer.name !== "") results.push({ text: layer.name, note: featviz.layer_facts(layer).join(" · "), layer: number });
    }
    if (results.length < MOST) {
      await Promise.allSettled(atlas.layers.map((_, number) => featviz.units_of(number)));
      for (const units of featviz.layers) {
        for (const unit of units || []) {
          if (results.length >= MOST) break;
          if (unit.channel === null && unit.title.toLowerCase().includes(wanted)) results.push({ text: unit.title, unit });
        }
      }
    }
    return results.slice(0, MOST);
  }

  function choose(place) {
    chosen = place;
    const input = document.getElementById("search");
    [...document.getElementById("found").children].forEach((each, other) => each.setAttribute("aria-selected", String(other === place)));
    if (place >= 0) input.setAttribute("aria-activedescendant", `found-${place}`);
    else input.removeAttribute("aria-activedescendant");
  }

  function close() {
    const input = document.getElementById("search");
    const list = document.getElementById("found");
    asked += 1;
    list.hidden = true;
    list.replaceChildren();
    input.setAttribute("aria-expanded", "false");
    found = [];
    choose(-1);
  }

  function go(result) {
    const input = document.getElementById("search");
    input.value = "";
    input.blur();
    close();
    if (result.unit) location.hash = result.unit.route;
    else featviz.go_to_layer(result.layer);
  }

  async function show() {
    const mine = (asked += 1);
    const input = document.getElementById("search");
    const results = await search(input.value);
    if (mine !== asked) return;
    found = results;
    const list = document.getElementById("found");
    const is_empty = results.length === 0;
    list.replaceChildren(...results.map((result, place) => element("li", {
      id: `found-${place}`, role: "option", "aria-selected": "false",
      onmousedown: (event) => { event.preventDefault(); go(result); },
    }, element("span", {}, result.text), result.note && element("span", { class: "note" }, result.note))));
    if (is_empty && input.value.trim() !== "") list.append(element("li", { class: "none" }, "Nothing has such an address"));
    list.hidden = list.children.length === 0;
    input.setAttribute("aria-expanded", String(!list.hidden));
    choose(is_empty ? -1 : 0);
  }

  featviz.start_search = function () {
    const input = document.getElementById("search");
    let showing = Promise.resolve(); // Enter means what the whole text finds
    input.addEventListener("input", () => { showing = show(); });
    input.addEventListener("blur", close);
    input.addEventListener("keydown", (event) => {
      if (event.key === "Escape") { input.value = ""; close(); input.blur(); event.stopPropagation(); return; }
      if (event.key === "Enter") {
        event.preventDefault();
        showing.then(() => { if (found[chosen]) go(found[chosen]); });
        return;
      }
      const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
      if (step && found.length) { event.preventDefault(); choose((chosen + step + found.length) % found.length); }
    });
  };
})(window.featviz);
