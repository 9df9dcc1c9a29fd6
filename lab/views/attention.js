// Draws DATA: one canvas for each layer and head, and the one that was clicked with its tokens.
const dark = matchMedia("(prefers-color-scheme: dark)").matches;
const tint = (share) => {
  const strength = Math.sqrt(share);
  const [from, to] = dark ? [[22, 24, 28], [120, 190, 255]] : [[255, 255, 255], [8, 64, 140]];
  return from.map((c, i) => Math.round(c + strength * (to[i] - c)));
};
const TINTS = Array.from({ length: 256 }, (_, n) => tint(n / 255));

DATA.forEach((maps, number) => {
  const [layers, heads, queries, keys] = maps.shape;
  const bytes = Uint8Array.from(atob(maps.weights), (c) => c.charCodeAt(0));
  const home = document.getElementById(`maps${number}`), large = document.getElementById(`large${number}`);
  const at = (map, q, k) => bytes[(map * queries + q) * keys + k];

  home.style.gridTemplateColumns = `repeat(${heads}, minmax(5rem, 11rem))`; // a layer is a row

  for (let map = 0; map < layers * heads; map++) {
    const figure = document.createElement("figure");
    const canvas = Object.assign(document.createElement("canvas"), { width: keys, height: queries });
    const pixels = new ImageData(keys, queries);
    for (let q = 0; q < queries; q++)
      for (let k = 0; k < keys; k++) {
        pixels.data.set(TINTS[at(map, q, k)], 4 * (q * keys + k));
        pixels.data[4 * (q * keys + k) + 3] = 255;
      }
    canvas.getContext("2d").putImageData(pixels, 0, 0);
    const caption = document.createElement("figcaption");
    caption.textContent = `layer ${Math.floor(map / heads) + 1}, head ${(map % heads) + 1}`;
    figure.title = maps.figures[map];
    figure.append(canvas, caption);
    figure.onclick = () => enlarge(map);
    home.append(figure);
  }

  function enlarge(map) {
    const cell = 16, left = 110, top = 110;
    const said = document.createElement("p");
    const title = `Layer ${Math.floor(map / heads) + 1}, head ${(map % heads) + 1}: ${maps.figures[map]}`;
    said.textContent = title;
    const ratio = devicePixelRatio || 1;
    const canvas = document.createElement("canvas");
    const [width, height] = [left + keys * cell, top + queries * cell];
    Object.assign(canvas, { width: width * ratio, height: height * ratio });
    Object.assign(canvas.style, { width: `${width}px`, height: `${height}px` });
    const pen = canvas.getContext("2d");
    pen.scale(ratio, ratio);
    pen.font = "11px ui-monospace, monospace";
    pen.fillStyle = getComputedStyle(document.body).color;
    const short = (text) => (text.length > 14 ? text.slice(0, 13) + "…" : text).replace(/\n/g, "⏎");
    pen.textAlign = "right";
    maps.queries.forEach((word, q) => pen.fillText(short(word), left - 6, top + q * cell + 12));
    pen.textAlign = "left";
    maps.keys.forEach((word, k) => {
      pen.save();
      pen.translate(left + k * cell + 11, top - 6);
      pen.rotate(-Math.PI / 2);
      pen.fillText(short(word), 0, 0);
      pen.restore();
    });
    for (let q = 0; q < queries; q++)
      for (let k = 0; k < keys; k++) {
        pen.fillStyle = `rgb(${TINTS[at(map, q, k)]})`;
        pen.fillRect(left + k * cell, top + q * cell, cell, cell);
      }
    canvas.onmousemove = (event) => {
      const q = Math.floor((event.offsetY - top) / cell), k = Math.floor((event.offsetX - left) / cell);
      const inside = q >= 0 && q < queries && k >= 0 && k < keys;
      said.textContent = inside
        ? `${JSON.stringify(maps.queries[q])} looks at ${JSON.stringify(maps.keys[k])}: ${((100 * at(map, q, k)) / 255).toFixed(1)}%`
        : title;
    };
    large.replaceChildren(said, canvas);
    large.style.display = "block";
    large.scrollIntoView({ behavior: "smooth", block: "nearest" });
  }
});
