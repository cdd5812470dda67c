// Wide blocks and tables scroll by themselves; the keyboard must reach them.
document$.subscribe(() => {
  for (const scrolled of document.querySelectorAll("pre > code, .md-typeset__scrollwrap")) scrolled.tabIndex = 0;
});
