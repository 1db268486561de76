// Making elements: text is always text, never HTML.
(function (featviz) {
  "use strict";

  // An element; `given` are attributes, or listeners where the name begins with "on".
  featviz.element = function (name, given, ...inside) {
    return filled(document.createElement(name), given, inside);
  };

  featviz.drawn = function (name, given, ...inside) {
    return filled(document.createElementNS("http://www.w3.org/2000/svg", name), given, inside);
  };

  function filled(element, given, inside) {
    for (const [key, value] of Object.entries(given || {})) {
      if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
      else if (value === true) element.setAttribute(key, "");
      else if (value !== false && value !== null && value !== undefined) element.setAttribute(key, value);
    }
    for (const each of inside.flat(Infinity)) {
      if (each !== null && each !== undefined && each !== false) element.append(each);
    }
    return element;
  }

  // A number for the eye: four digits; a dash where there is none.
  featviz.shown = function (value) {
    if (value === null || value === undefined) return "–";
    if (typeof value !== "number") return String(value);
    if (Number.isInteger(value)) return String(value);
    const text = Math.abs(value) >= 1e5 || Math.abs(value) < 1e-3 ? value.toExponential(2) : value.toPrecision(4);
    return text.replace(/(\.\d*?)0+(?=e|$)/, "$1").replace(/\.(?=e|$)/, "").replace("-", "−");
  };

  // What a screen reader says, and nobody sees.
  featviz.say = function (text) {
    document.getElementById("said").textContent = text;
  };

  featviz.layer_label = (name) => name === "" ? "several layers" : name;

  // Facts of a layer in short words.
  featviz.layer_facts = function (layer) {
    const words = [];
    if (layer.channels) words.push(`${layer.channels} ch`);
    if (layer.sites && layer.sites.length) words.push(layer.sites.join("×"));
    if (layer.field) words.push(`sees ${layer.field.join("×").replace(/^(\d+)×\1$/, "$1")} px`);
    if (layer.positions) words.push(`tied ×${layer.positions}`);
    return words;
  };

  // Copies text; the older way where the newer is not allowed.
  featviz.copy = async function (text) {
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      const area = featviz.element("textarea", { class: "offscreen", readonly: true });
      area.value = text;
      document.body.append(area);
      area.select();
      document.execCommand("copy");
      area.remove();
    }
  };

  featviz.copy_button = function (label, text) {
    const button = featviz.element("button", { type: "button", class: "copy", onclick: async () => {
      await featviz.copy(text());
      button.textContent = "Copied";
      featviz.say(`${label}: copied`);
      setTimeout(() => { button.textContent = label; }, 1500);
    } }, label);
    return button;
  };
})(window.featviz);
