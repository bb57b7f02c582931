// Tick: the time, for what says how long ago something was.
import { useEffect, useState } from "./html.js";

/** A hook: the time, every second while `on`. */
export function useTick(on = true, milliseconds = 1000) {
  const [now, setNow] = useState(Date.now());
  useEffect(() => {
    if (!on) return undefined;
    const timer = setInterval(() => setNow(Date.now()), milliseconds);
    return () => clearInterval(timer);
  }, [on, milliseconds]);
  return now;
}
