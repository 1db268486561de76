// The course of an optimization as a small drawing.
(function (featviz) {
  "use strict";
  const { drawn, element, shown } = featviz;

  const WIDTH = 320;
  const HEIGHT = 96;

  // `course`: values, every `stride` steps, null where there was none; `steps` in all.
  featviz.course_plot = function (course, stride, steps) {
    const there = course.filter((value) => typeof value === "number");
    if (there.length < 2) return null;
    const low = Math.min(...there);
    const high = Math.max(...there);
    const across = (place) => ((place / (course.length - 1)) * WIDTH).toFixed(1);
    const down = (value) => (HEIGHT - 4 - ((value - low) / (high - low || 1)) * (HEIGHT - 8)).toFixed(1);
    let path = "";
    let is_new = true;
    course.forEach((value, place) => {
      if (typeof value === "number") path += `${is_new ? "M" : "L"}${across(place)} ${down(value)}`;
      is_new = typeof value !== "number";
    });
    const words = `Value over ${steps} steps: from ${shown(there[0])} to ${shown(there[there.length - 1])}, at most ${shown(high)}`;
    return element("figure", { class: "course" },
      drawn("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": words, preserveAspectRatio: "none" },
        low < 0 && high > 0 && drawn("path", { class: "zero", d: `M0 ${down(0)}H${WIDTH}` }),
        drawn("path", { class: "line", d: path })),
      element("figcaption", {}, element("span", {}, "step 0"),
        element("span", {}, `${shown(low)} … ${shown(high)}`), element("span", {}, `step ${steps}`)));
  };
})(window.featviz);
