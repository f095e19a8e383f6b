import { readFileSync } from "node:fs";

// Grafana's font, where its style sheet looks for it.
const fonts = {
  name: "fonts",
  generateBundle() {
    for (const [name, weight] of [["Regular", 400], ["Medium", 500]]) {
      const file = `node_modules/@fontsource/inter/files/inter-latin-${weight}-normal.woff2`;
      this.emitFile({
        type: "asset",
        fileName: `fonts/inter/Inter-${name}.woff2`,
        source: readFileSync(file),
      });
    }
  },
};

export default {
  base: "./",
  // Its icons.
  publicDir: "node_modules/@grafana/ui/dist/public",
  plugins: [fonts],
  esbuild: { jsx: "automatic" },
  build: { chunkSizeWarningLimit: 10_000, modulePreload: false },
};
