// The theme makes wide tables scroll. A keyboard can only scroll an element that takes the focus.
const makeFocusable = () => {
  for (const wrap of document.querySelectorAll(".md-typeset__scrollwrap:not([tabindex])")) {
    wrap.tabIndex = 0;
    wrap.setAttribute("role", "region");
    wrap.setAttribute("aria-label", "Table");
  }
};
new MutationObserver(makeFocusable).observe(document.documentElement, { childList: true, subtree: true });
makeFocusable();
