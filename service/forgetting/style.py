"""The look of the HTML report: light and dark, and on paper."""

CSS = """
:root { --ink: #1c2330; --soft: #5b6577; --line: #dfe3ea; --paper: #fff; --wash: #f6f7f9;
  --good: #1a7f4b; --bad: #c0332b; --open: #a86a00; --void: #5b6577; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e9ef; --soft: #9aa4b5; --line: #313948; --paper: #141922; --wash: #1b212c;
    --good: #4cc38a; --bad: #f2766e; --open: #e5a54b; --void: #9aa4b5; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--wash); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
main { max-width: 1180px; margin: 0 auto; padding: 32px 24px 64px; }
header { background: var(--paper); border: 1px solid var(--line); border-left: 8px solid var(--tone);
  border-radius: 8px; padding: 20px 24px; }
header p { margin: 4px 0 0; font-size: 16px; overflow-wrap: anywhere; }
header .eyebrow { margin: 0; color: var(--soft); font-size: 13px; }
h1 { margin: 0; color: var(--tone); font-size: 34px; line-height: 1.2; }
h2 { margin: 36px 0 10px; font-size: 19px; }
h3 { margin: 20px 0 8px; font-size: 15px; color: var(--soft); overflow-wrap: anywhere; }
.PASS { --tone: var(--good); } .FAIL { --tone: var(--bad); }
.INCONCLUSIVE { --tone: var(--open); } .INVALID { --tone: var(--void); }
.badge { color: var(--tone); border: 1px solid currentColor; border-radius: 99px; padding: 1px 9px;
  font-size: 12px; font-weight: 600; white-space: nowrap; }
.scroll { overflow-x: auto; background: var(--paper); border: 1px solid var(--line); border-radius: 8px; }
table { width: 100%; border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: 14px; }
th { text-align: left; color: var(--soft); font-weight: 600; font-size: 12.5px; vertical-align: bottom; }
th, td { padding: 7px 10px; border-bottom: 1px solid var(--line); }
td { vertical-align: top; white-space: pre-wrap; overflow-wrap: break-word; }
tr:last-child td { border-bottom: 0; }
ul { padding-left: 20px; } li { margin: 4px 0; overflow-wrap: anywhere; }
details { margin-top: 12px; } summary { cursor: pointer; color: var(--soft); }
pre { white-space: pre-wrap; overflow-wrap: anywhere; font-size: 11px; }
.sign { display: grid; grid-template-columns: repeat(4, 1fr); gap: 24px; margin-top: 64px; }
.sign div { border-top: 1px solid var(--ink); padding-top: 6px; color: var(--soft); font-size: 13px; }
@media print { body { background: none; } main { max-width: none; padding: 0; } .scroll { overflow: visible; }
  h2, h3 { break-after: avoid; } tr { break-inside: avoid; } }
"""
