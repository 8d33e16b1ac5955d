import { render } from "preact";
import { App } from "./app";
import "./styles/index.css";

render(<App />, document.getElementById("app")!);

// The visit ends with the page: its uploads are deleted, unless another page of the visit asks again within a minute.
addEventListener("pagehide", () => navigator.sendBeacon("/v1/visits/end"));
