import { defineConfig } from "vite";

// The page is built into the Python package and committed, so that installing needs no Node.
export default defineConfig({
  build: {
    outDir: "../src/openxclip/serve/static",
    emptyOutDir: true,
    target: ["chrome123", "edge123", "firefox121", "safari17.5"],
    assetsInlineLimit: 0, // the content security policy forbids data: addresses
    modulePreload: { polyfill: false },
    cssCodeSplit: false,
    reportCompressedSize: false,
  },
  server: {
    proxy: Object.fromEntries(
      ["/v1", "/healthz", "/readyz", "/metrics", "/docs", "/openapi.json"].map((path) => [
        path,
        { target: process.env.OPENXCLIP_SERVER ?? "http://127.0.0.1:8000", changeOrigin: true },
      ]),
    ),
  },
});
