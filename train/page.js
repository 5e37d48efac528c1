"use strict";
(() => {
  // The values are told from the lines as they are drawn: the figure says what 0 and 1000 stand for.
  const number = (d, name) => Number(d[name]);
  const compact = value => {
    if (!Number.isFinite(value)) return "-";
    let unit = 0;
    while (unit < 4 && Math.abs(value) >= 999.95) { value /= 1000; unit++; }
    return String(Number(value.toPrecision(4))) + ["", "k", "M", "G", "T"][unit];
  };
  const read = (figure, path) => {
    const d = figure.dataset, low = number(d, "y0"), high = number(d, "y1");
    return Array.from(path.getAttribute("d").matchAll(/[ML](\S+) ([^MLh]+)/g), ([, x, y]) => {
      const place = 1 - Number(y) / 1000;
      return { x: Number(x), value: d.log === "1" ? low * (high / low) ** place : low + (high - low) * place };
    });
  };
  const charts = Array.from(document.querySelectorAll(".chart"), figure => ({
    figure,
    plot: figure.querySelector(".plot"),
    cross: figure.querySelector(".cross"),
    unit: figure.querySelector("figcaption b"),
    title: figure.querySelector("figcaption b").textContent,
    outputs: Array.from(figure.querySelectorAll("output"), output => ({
      output,
      newest: output.textContent,
      path: figure.querySelector(`.line[data-line="${output.dataset.line}"]`),
      points: null,
    })),
  }));
  const nearest = (points, x) => {
    let low = 0, high = points.length - 1;
    while (high - low > 1) {
      const middle = (low + high) >> 1;
      if (points[middle].x < x) low = middle; else high = middle;
    }
    return Math.abs(points[low].x - x) < Math.abs(points[high].x - x) ? points[low] : points[high];
  };
  const show = x => {
    for (const chart of charts) {
      const { x0, x1 } = chart.figure.dataset;
      chart.cross.style.left = `${x / 10}%`;
      chart.cross.style.visibility = "visible";
      chart.unit.textContent = `${chart.title}, step ${Math.round(Number(x0) + (Number(x1) - Number(x0)) * x / 1000)}`;
      for (const item of chart.outputs) {
        item.points ??= read(chart.figure, item.path);
        if (item.points.length) item.output.textContent = compact(nearest(item.points, x).value);
      }
    }
  };
  const hide = () => {
    for (const chart of charts) {
      chart.cross.style.visibility = "hidden";
      chart.unit.textContent = chart.title;
      for (const item of chart.outputs) item.output.textContent = item.newest;
    }
  };
  for (const chart of charts) {
    chart.plot.addEventListener("pointermove", event => {
      const box = chart.plot.getBoundingClientRect();
      show(Math.min(1000, Math.max(0, 1000 * (event.clientX - box.left) / box.width)));
    });
    chart.plot.addEventListener("pointerleave", hide);
  }
})();
