// The dashboard of deploy/, drawn by Grafana's components with what a Prometheus answers that
// serves this page. Its address says of what time: `?from=S&to=S&factor=N`, the windows of its
// queries being shorter by that factor.
import { createTheme, dateTime, ThemeContext } from "@grafana/data";
import { GlobalStyles, PanelChrome } from "@grafana/ui";
import { createRoot } from "react-dom/client";
import { version } from "@grafana/ui/package.json";
import { frames } from "./data.js";
import { hasNone, isKnown, Panel, prepared } from "./panels.jsx";

window.__grafana_public_path__ = "./";

// Grafana's grid.
const [COLUMNS, ROW, GAP] = [24, 30, 8];
const theme = createTheme({ colors: { mode: "dark" } });
const wide = document.documentElement.clientWidth - 2 * GAP;

const place = ({ x, y, w, h }, top) => ({
  left: GAP + (x * (wide + GAP)) / COLUMNS,
  top: top + y * (ROW + GAP),
  width: (w * (wide + GAP)) / COLUMNS - GAP,
  height: h * (ROW + GAP) - GAP,
});

const Dashboard = ({ dashboard, shown, range, factor }) => {
  const top = 64;
  const rows = Math.max(...dashboard.panels.map(({ gridPos: { y, h } }) => y + h));
  const seconds = Math.round((range.to - range.from) / 1000);
  return (
    <div style={{ position: "relative", height: top + rows * (ROW + GAP) }}>
      <h1 style={{ fontSize: 18, margin: 0, padding: "8px 8px 0" }}>{dashboard.title}</h1>
      <p style={{ margin: 0, padding: "0 8px", color: theme.colors.text.secondary }}>
        deploy/grafana/tcptrace.json, drawn by Grafana's components (@grafana/ui {version}), not by
        Grafana itself: {seconds} s of two hosts that leak; windows of queries {factor} times
        shorter
      </p>
      {dashboard.panels.map((panel, n) => {
        const at = place(panel.gridPos, top);
        return (
          <div key={panel.id} style={{ position: "absolute", ...at }}>
            <PanelChrome
              width={at.width}
              height={at.height}
              title={panel.title}
              description={panel.description}
            >
              {(width, height) => (
                <Panel {...{ panel, shown: shown[n], range, theme, width, height }} />
              )}
            </PanelChrome>
          </div>
        );
      })}
    </div>
  );
};

const draw = async () => {
  const asked = new URLSearchParams(location.search);
  const [from, to, factor] = ["from", "to", "factor"].map((name) => Number(asked.get(name)));
  const dashboard = await (await fetch("dashboard.json")).json();
  const shown = await Promise.all(
    dashboard.panels.map(async (panel) =>
      isKnown(panel) ? prepared(panel, await frames(panel, { from, to, factor }), theme) : null,
    ),
  );
  const times = { from: dateTime(from * 1000), to: dateTime(to * 1000) };
  const range = { ...times, raw: times };
  createRoot(document.getElementById("root")).render(
    <ThemeContext.Provider value={theme}>
      <GlobalStyles />
      <Dashboard {...{ dashboard, shown, range, factor }} />
    </ThemeContext.Provider>,
  );
  return {
    panels: dashboard.panels.length,
    unknown: dashboard.panels.filter((panel) => !isKnown(panel)).map(({ title }) => title),
    empty: dashboard.panels.filter((_, n) => hasNone(shown[n])).map(({ title }) => title),
  };
};

// Text on a canvas is drawn once: its font must be there before.
const font = async (weight) => {
  const file = weight === 400 ? "Regular" : "Medium";
  const face = new FontFace("Inter", `url(fonts/inter/Inter-${file}.woff2)`, { weight });
  document.fonts.add(await face.load());
};

Promise.all([font(400), font(500)])
  .then(draw)
  .then((said) => (document.documentElement.dataset.drawn = JSON.stringify(said)))
  .catch((e) => (document.documentElement.dataset.failed = String(e.stack ?? e)));
