// After everything else: what the browser has drawn, as lines of text. "value CHART KIND NAME STEP VALUE" for each point of
// each curve, told from where it lies on the screen; "wrong ..." for what should not be.
(() => {
  const lines = [];
  const wrong = text => lines.push(`wrong ${text}`);
  window.wrong.forEach(wrong);
  if (window.hacked !== undefined) wrong("a script of the run's files was run");
  if (document.querySelectorAll("script").length !== 3) wrong("other scripts than ours and the test's");

  const root = document.documentElement;
  if (root.scrollWidth > window.innerWidth) wrong(`the page is ${root.scrollWidth} wide in ${window.innerWidth}`);
  const dark = matchMedia("(prefers-color-scheme: dark)").matches;
  const light = color => color.match(/\d+/g).slice(0, 3).reduce((sum, c) => sum + Number(c), 0) / 3;
  const paper = light(getComputedStyle(document.body).backgroundColor), ink = light(getComputedStyle(document.body).color);
  lines.push(`scheme ${dark ? "dark" : "light"} ${window.innerWidth}`);
  if ((paper < 128) !== dark || Math.abs(paper - ink) < 150) wrong(`paper ${paper}, ink ${ink}`);

  const gaps = (boxes, from, to, what) => {
    const sorted = boxes.sort((a, b) => a[from] - b[from]);
    for (let i = 1; i < sorted.length; i++)
      if (sorted[i][from] < sorted[i - 1][to] - 0.5) wrong(`labels of ${what} overlap`);
  };
  for (const figure of document.querySelectorAll(".chart")) {
    const d = figure.dataset, svg = figure.querySelector("svg"), box = svg.getBoundingClientRect();
    if (box.width < 200 || box.height < 100) wrong(`${figure.id} is ${box.width} by ${box.height}`);
    const labels = kind => Array.from(figure.querySelectorAll(`.${kind} span`), span => span.getBoundingClientRect());
    if (labels("xs").length < 2 || labels("ys").length < 2) wrong(`${figure.id} has no labels`);
    gaps(labels("xs"), "left", "right", `${figure.id} across`);
    gaps(labels("ys"), "top", "bottom", `${figure.id} upwards`);
    for (const label of labels("ys")) if (label.left < 0) wrong(`a label of ${figure.id} is cut off`);
    for (const path of figure.querySelectorAll(".raw, .line")) {
      const at = path.getBoundingClientRect();
      if (at.left < box.left - 2 || at.right > box.right + 2 || at.top < box.top - 2 || at.bottom > box.bottom + 2)
        wrong(`${figure.id} is drawn outside of its frame`);
      if (getComputedStyle(path).stroke === "none") wrong(`${figure.id} has an invisible line`);
      // From the screen back to values: by the browser's own matrix, not by the numbers in the file.
      const matrix = path.getScreenCTM();
      const y0 = Number(d.y0), y1 = Number(d.y1), x0 = Number(d.x0), x1 = Number(d.x1);
      for (const [, x, y] of path.getAttribute("d").matchAll(/[ML](\S+) ([^MLh]+)/g)) {
        const on = new DOMPoint(Number(x), Number(y)).matrixTransform(matrix);
        const across = (on.x - box.left) / box.width, up = 1 - (on.y - box.top) / box.height;
        const value = d.log === "1" ? y0 * (y1 / y0) ** up : y0 + (y1 - y0) * up;
        lines.push(`value ${figure.id} ${path.classList[0]} ${path.dataset.name} ${x0 + (x1 - x0) * across} ${value / Number(d.factor)}`);
      }
    }
  }

  // Under the pointer: the value there, and a line through all charts.
  const loss = document.getElementById("loss"), plot = loss.querySelector(".plot"), at = plot.getBoundingClientRect();
  const output = loss.querySelector("output"), before = output.textContent;
  plot.dispatchEvent(new PointerEvent("pointermove", { clientX: at.left + at.width / 4, clientY: at.top + 20 }));
  lines.push(`pointer ${loss.querySelector("b").textContent.match(/\d+/)[0]} ${output.textContent}`);
  if (getComputedStyle(document.querySelector("#grad_norm .cross")).visibility !== "visible") wrong("no line in other charts");
  plot.dispatchEvent(new PointerEvent("pointerleave"));
  if (output.textContent !== before) wrong("the pointer has left, its value stays");
  for (const image of document.images) if (!image.complete || image.naturalWidth === 0) wrong("a preview is not shown");
  lines.push(`images ${document.images.length}`);
  const out = document.createElement("pre");
  out.textContent = `\n@@@\n${lines.join("\n")}\n@@@\n`;
  document.body.append(out);
})();
