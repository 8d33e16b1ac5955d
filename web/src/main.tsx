import { render } from "preact";
import { App } from "./app";
import { endVisitWithLastTab } from "./tabs";
import "./styles/index.css";

render(<App />, document.getElementById("app")!);

endVisitWithLastTab();
