// Draws DATA.points: drag moves the plane, the wheel or two fingers enlarge it, a point names its neighbours.
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
  make("text", { x: 7, y: 4 }, group).textContent = name;
  group.onmouseenter = group.onfocus = () => choose(n);
  return group;
});

function frame() { // pixels of a share of the plane, and where its corner stands
  const box = home.getBoundingClientRect(), least = Math.min(box.width, box.height), scale = least / view.size;
  const [x, y] = [(box.width - least) / 2 - view.x * scale, (box.height - least) / 2 - view.y * scale];
  return { scale, x, y, left: box.left, top: box.top };
}

function place() {
  const { scale, x, y } = frame();
  points.forEach((group, n) => group.setAttribute("transform", `translate(${x + at[n][0] * scale} ${y + at[n][1] * scale})`));
}

function choose(n) {
  const near = DATA.neighbours[n];
  points.forEach((group, m) => {
    group.classList.toggle("chosen", m === n);
    group.classList.toggle("near", near.some(([other]) => other === m));
  });
  said.textContent = `${DATA.points[n][0]}: ` + near.map(([m, cosine]) => `${DATA.points[m][0]} ${cosine.toFixed(2)}`).join(", ");
  home.append(points[n]); // above the others
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
search.oninput = () => {
  const wanted = search.value.toLowerCase();
  points.forEach((group, n) => group.classList.toggle("faded", wanted && !DATA.points[n][0].toLowerCase().includes(wanted)));
};
addEventListener("resize", place);
place();
