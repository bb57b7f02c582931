// Filters: what of a view stands in the address, so that an address that is shared shows the same.
import { href } from "./router.js";

/** The parameters of these names that the address has. */
export function filterOf(route, names) {
  return Object.fromEntries(names.map((name) => [name, route.query.get(name) ?? ""]).filter(([, value]) => value));
}

/** Change some parameters of the address, as it is now: what is typed in one field and chosen in another do not undo each other. */
export function refine(router, changes) {
  router.go(href(router.route.path, { ...Object.fromEntries(router.route.query), ...changes }), { replace: true });
}
