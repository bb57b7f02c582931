// Views: what the navigation offers, in its order. `badge` is a component beside the title, such as a count.
import { AuditView } from "./views/audit.js";
import { LettersView } from "./views/dead_letters.js";
import { RunsView } from "./views/runs.js";
import { TrafficView } from "./views/traffic.js";
import { TreeView } from "./views/tree.js";
import { UpstreamsView } from "./views/upstreams.js";
import { UsageView } from "./views/usage.js";
import { WaitingBadge, WaitingView } from "./views/waiting.js";

export const VIEWS = [
  { path: "tree", title: "Tree", icon: "tree", component: TreeView },
  { path: "traffic", title: "Traffic", icon: "traffic", component: TrafficView },
  { path: "runs", title: "Runs", icon: "runs", component: RunsView },
  { path: "waiting", title: "Waiting", icon: "waiting", component: WaitingView, badge: WaitingBadge },
  { path: "dead-letters", title: "Dead letters", icon: "letters", component: LettersView },
  { path: "upstreams", title: "Upstreams", icon: "upstreams", component: UpstreamsView },
  { path: "usage", title: "Usage", icon: "usage", component: UsageView },
  { path: "audit", title: "Audit", icon: "audit", component: AuditView },
];
