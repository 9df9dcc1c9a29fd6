// Draws DATA.points: drag or arrows move the plane, the wheel, two fingers, + and - enlarge it, a point names its neighbours.
const home = document.getElementById("plane"), said = document.getElementById("said"), search = document.getElementById("find");
const SVG = "http://www.w3.org/2000/svg";
const make = (kind, values, parent) => {
  const made = document.createElementNS(SVG, kind);
  for (const [key, value] of Object.entries(values)) made.setAttribute(key, value);
  parent.append(made);
  return made;
};
const xs = DATA.points.map((p) => p[1]), ys = DATA.points.map((p) => p[2]);
const middle = (values) => (Math.min(...values) + Math.max(...values)) / 2;
const reach = (values) => Math.max(...values) - Math.min(...values);
const span = Math.max(reach(xs), reach(ys)) || 1;
const at = DATA.points.map(([, x, y]) => [0.5 + (x - middle(xs)) / span, 0.5 - (y - middle(ys)) / span]);

let view = { x: -0.05, y: -0.05, size: 1.15 }; // in shares of the plane
const points = DATA.points.map(([name], n) => {
  const group = make("g", { class: "point", tabindex: 0 }, home);
  make("circle", { r: 4 }, group);
  make("text", { y: 4 }, group).textContent = name;
  group.onfocus = () => choose(n);
  group.onmouseenter = () => {
    choose(n);
    home.append(group); // above the others
  };
  return group;
});

const widths = points.map((group) => group.lastChild.getComputedTextLength());

function frame() { // pixels of a share of the plane, and where its corner stands
  const box = home.getBoundingClientRect(), least = Math.min(box.width, box.height), scale = least / view.size;
  const [x, y] = [(box.width - least) / 2 - view.x * scale, (box.height - least) / 2 - view.y * scale];
  return { scale, x, y, left: box.left, top: box.top };
}

function place() {
  const { scale, x, y } = frame(), right = home.clientWidth, taken = [];
  const dots = at.map(([across, down]) => [x + across * scale, y + down * scale]);
  points.forEach((group, n) => {
    const [px, py] = dots[n], width = widths[n];
    group.setAttribute("transform", `translate(${px} ${py})`);
    const free = (from) => !taken.some(([x0, y0, x1]) => from < x1 && x0 < from + width && Math.abs(py - y0) < 13)
      && !dots.some(([x0, y0], m) => m !== n && from - 5 < x0 && x0 < from + width + 5 && Math.abs(py - y0) < 12);
    const inside = (from) => from >= 0 && from + width <= right;
    const side = [7, -7 - width].find((each) => inside(px + each) && free(px + each)); // of its point; none where both are taken
    const crowded = side === undefined;
    group.lastChild.setAttribute("x", side ?? (px + 7 + width > right ? -7 - width : 7));
    group.classList.toggle("crowded", crowded);
    if (!crowded) taken.push([px + side, py, px + side + width]);
  });
}

function choose(n) {
  const near = DATA.neighbours[n];
  points.forEach((group, m) => {
    group.classList.toggle("chosen", m === n);
    group.classList.toggle("near", near.some(([other]) => other === m));
  });
  said.textContent = `${DATA.points[n][0]}: ` + near.map(([m, cosine]) => `${DATA.points[m][0]} ${cosine.toFixed(2)}`).join(", ");
}

function enlarge(factor, x, y) {
  const { scale, ...corner } = frame();
  const [fx, fy] = [(x - corner.left - corner.x) / scale, (y - corner.top - corner.y) / scale]; // stays where it is
  view.size *= factor;
  const moved = frame();
  view.x += fx - (x - moved.left - moved.x) / moved.scale;
  view.y += fy - (y - moved.top - moved.y) / moved.scale;
  place();
}

const held = new Map();
home.onpointerdown = (event) => {
  held.set(event.pointerId, event);
  home.setPointerCapture(event.pointerId);
};
home.onpointerup = home.onpointercancel = (event) => held.delete(event.pointerId);
home.onpointermove = (event) => {
  const before = held.get(event.pointerId);
  if (!before) return;
  if (held.size === 2) {
    const other = [...held.values()].find((one) => one.pointerId !== event.pointerId);
    const apart = (one) => Math.hypot(one.clientX - other.clientX, one.clientY - other.clientY) || 1;
    enlarge(apart(before) / apart(event), other.clientX, other.clientY);
  } else {
    const { scale } = frame();
    view.x -= (event.clientX - before.clientX) / scale;
    view.y -= (event.clientY - before.clientY) / scale;
    place();
  }
  held.set(event.pointerId, event);
};
home.onwheel = (event) => {
  event.preventDefault();
  enlarge(event.deltaY > 0 ? 1.15 : 1 / 1.15, event.clientX, event.clientY);
};
const keys = { "+": [1 / 1.15], "=": [1 / 1.15], "-": [1.15], ArrowLeft: [1, -1, 0], ArrowRight: [1, 1, 0], ArrowUp: [1, 0, -1],
  ArrowDown: [1, 0, 1] };
home.onkeydown = (event) => {
  if (!(event.key in keys) || event.ctrlKey || event.metaKey || event.altKey) return;
  event.preventDefault();
  const [factor, right = 0, down = 0] = keys[event.key], box = home.getBoundingClientRect();
  view.x += (right * view.size) / 10;
  view.y += (down * view.size) / 10;
  enlarge(factor, box.left + box.width / 2, box.top + box.height / 2);
};
search.oninput = () => {
  const wanted = search.value.toLowerCase();
  points.forEach((group, n) => group.classList.toggle("faded", wanted && !DATA.points[n][0].toLowerCase().includes(wanted)));
};
addEventListener("resize", place);
place();
