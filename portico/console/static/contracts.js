// Contracts: what each operation takes, from the gateway's own OpenAPI document, which is read when it is first needed.
import { useGateway } from "./gateway.js";
import { useEffect, useState } from "./html.js";

export class Contracts {
  #api;
  #document = null;

  constructor(api, stream) {
    this.#api = api;
    stream.on("gap", () => this.clear()); // another gateway may answer now
  }

  clear() {
    this.#document = null;
  }

  /** The whole document. */
  document() {
    this.#document ??= this.#api.get("openapi.json").catch((problem) => {
      this.#document = null;
      throw problem;
    });
    return this.#document;
  }

  /** What `POST` of a path takes: `{root, schema, example, required}`; null where the document does not have it. */
  async of(path) {
    const root = await this.document();
    const body = root.paths?.[path]?.post?.requestBody;
    const content = body?.content?.["application/json"];
    if (!content) return null;
    const example = content.example ?? Object.values(content.examples ?? {})[0]?.value;
    return { root, schema: content.schema ?? {}, example, required: Boolean(body.required) };
  }
}

/** A hook: the contract of a path: undefined while it is read, null where there is none. */
export function useContract(path) {
  const { contracts } = useGateway();
  const [contract, setContract] = useState(undefined);
  useEffect(() => {
    let here = true;
    setContract(undefined);
    const take = (one) => here && setContract(one);
    contracts.of(path).then(take, () => take(null));
    return () => (here = false);
  }, [path]);
  return contract;
}
