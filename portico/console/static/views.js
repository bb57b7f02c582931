// Views: what the navigation offers, in its order. `badge` is a component beside the title, such as a count.
import { AuditView } from "./views/audit.js";
import { LettersView } from "./views/dead_letters.js";
<<<<<<< HEAD
import { RunsBadge, RunsView } from "./views/runs.js";
=======
import { RunsView } from "./views/runs.js";
>>>>>>> console
import { TrafficView } from "./views/traffic.js";
import { TreeView } from "./views/tree.js";
import { UpstreamsView } from "./views/upstreams.js";
import { UsageView } from "./views/usage.js";
<<<<<<< HEAD
=======
import { WaitingBadge, WaitingView } from "./views/waiting.js";
>>>>>>> console

export const VIEWS = [
  { path: "tree", title: "Tree", icon: "tree", component: TreeView },
  { path: "traffic", title: "Traffic", icon: "traffic", component: TrafficView },
<<<<<<< HEAD
  { path: "runs", title: "Runs", icon: "runs", component: RunsView, badge: RunsBadge },
=======
  { path: "runs", title: "Runs", icon: "runs", component: RunsView },
  { path: "waiting", title: "Waiting", icon: "waiting", component: WaitingView, badge: WaitingBadge },
>>>>>>> console
  { path: "dead-letters", title: "Dead letters", icon: "letters", component: LettersView },
  { path: "upstreams", title: "Upstreams", icon: "upstreams", component: UpstreamsView },
  { path: "usage", title: "Usage", icon: "usage", component: UsageView },
  { path: "audit", title: "Audit", icon: "audit", component: AuditView },
];
