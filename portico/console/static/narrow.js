// Narrow: whether the page is as wide as a phone.
import { useEffect, useState } from "./html.js";

const PHONE = "(max-width: 760px)";

/** A hook. */
export function useNarrow() {
  const [narrow, setNarrow] = useState(() => matchMedia(PHONE).matches);
  useEffect(() => {
    const media = matchMedia(PHONE);
    const look = () => setNarrow(media.matches);
    media.addEventListener("change", look);
    return () => media.removeEventListener("change", look);
  }, []);
  return narrow;
}
