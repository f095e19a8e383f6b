(() => {
  const faults = [];
  const seen = (e) => e.getClientRects().length > 0 && getComputedStyle(e).visibility === "visible";
  let level = 0;
  for (const h of document.querySelectorAll("h1, h2, h3, h4")) {
    if (!seen(h)) continue;
    const n = Number(h.tagName[1]);
    if (n > level + 1) faults.push(`heading ${n} after ${level}: ${h.textContent}`);
    level = n;
  }
  if (document.querySelectorAll("h1").length !== 1) faults.push("not one h1");
  const ids = new Set();
  for (const e of document.querySelectorAll("[id]")) {
    if (ids.has(e.id)) faults.push(`twice: #${e.id}`);
    ids.add(e.id);
  }
  for (const name of ["aria-labelledby", "aria-describedby", "aria-activedescendant", "for"]) {
    for (const e of document.querySelectorAll(`[${name}]`)) {
      for (const id of e.getAttribute(name).split(" ")) if (!ids.has(id)) faults.push(`${name}: no #${id}`);
    }
  }
  for (const e of document.querySelectorAll("button, input, select, svg[role], [role=region], [role=grid]")) {
    const named = e.getAttribute("aria-label") || e.getAttribute("aria-labelledby") || e.closest("label")
      || (e.tagName === "BUTTON" && e.textContent.trim());
    if (!named) faults.push(`without a name: ${e.outerHTML.slice(0, 80)}`);
  }
  const parts = (text) => {
    const n = text.match(/[\d.]+/g).map(Number);
    return n.length < 4 ? [...n, 1] : n;
  };
  const over = (top, below) => top.slice(0, 3).map((c, n) => c * top[3] + below[n] * (1 - top[3]));
  const bright = (c) => {
    const [r, g, b] = c.map((v) => (v / 255 <= 0.03928 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (e) => {
    if (!e) return [255, 255, 255];
    const own = parts(getComputedStyle(e).backgroundColor);
    return own[3] === 0 ? behind(e.parentElement) : over(own, behind(e.parentElement));
  };
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  const told = new Set();
  while (walker.nextNode()) {
    const e = walker.currentNode.parentElement;
    if (!walker.currentNode.nodeValue.trim() || !seen(e) || ["SCRIPT", "STYLE", "TITLE", "DESC", "OPTION"].includes(e.tagName)) continue;
    const style = getComputedStyle(e);
    const below = behind(e);
    const ink = over(parts(e instanceof SVGElement ? style.fill : style.color), below);
    const [a, b] = [bright(ink), bright(below)].sort((x, y) => y - x);
    const size = parseFloat(style.fontSize);
    const large = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700);
    const contrast = (a + 0.05) / (b + 0.05);
    const key = `${e.tagName}.${e.className} ${ink} ${below}`;
    if (contrast < (large ? 3 : 4.5) && !told.has(key)) {
      told.add(key);
      faults.push(`contrast ${contrast.toFixed(2)}: ${e.tagName} ${walker.currentNode.nodeValue.trim().slice(0, 40)}`);
    }
  }
  return faults;
})()
