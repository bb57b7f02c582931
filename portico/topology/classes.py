"""Classes: from the type names of a topology to what makes the process. The only table of type names in the house.

A type is an entry of the table, one that the caller brings along, or a class of the user's: by dotted path, or by `module` and
`class`. User modules are imported here; what they raise becomes a mistake that names their file and line.
"""

from __future__ import annotations

import importlib
import inspect
import sys
import traceback
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.machinery import PathFinder
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from portico.kernel.dynamic_supervisor import DynamicSupervisor
from portico.kernel.process import AgentProcess
from portico.kernel.supervisor import Supervisor
from portico.topology.mistakes import Location, Mistakes, nearest, shown

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping
    from types import ModuleType

    from portico.topology.model import AgentSettings


Maker: TypeAlias = "Callable[..., AgentProcess | Supervisor]"
"""What makes a process or a supervisor from a name and keyword arguments: its class, or a function."""
NODE_TYPES: Mapping[str, str] = {
    "agent": "portico.kernel.process:AgentProcess",
    "gen_server": "portico.kernel.genserver:GenServer",
    "dynamic_supervisor": "portico.kernel.dynamic_supervisor:DynamicSupervisor",
    "model_agent": "portico.agents.model_agent:ModelAgent",
}
"""Type names of the house and where their classes are. `supervisor` is not here: it is a spelling of the schema."""

_ABSTRACT = frozenset({"agent", "gen_server"})
"""Types that say what a class must be, and do nothing by themselves."""


@contextmanager
def importable(directory: Path | None) -> Generator[None]:
    """Let modules that stand beside a topology be imported, before all others of the same name.

    Afterwards the directory is the last on the import path, so that an import inside a handler still finds its module.
    """
    if directory is None:
        yield
        return
    entry = str(directory.resolve())
    sys.path.insert(0, entry)
    importlib.invalidate_caches()
    try:
        yield
    finally:
        sys.path.remove(entry)
        if entry not in sys.path:
            sys.path.append(entry)


@dataclass(frozen=True, slots=True)
class Classes:
    """The type names that one topology may use."""

    mistakes: Mistakes
    """Where mistakes are told."""
    directory: Path | None
    """Where the topology's file is: its modules are beside it."""
    node_types: Mapping[str, Maker]
    """Types that the caller brings along, such as `http_gateway`."""
    agent_classes: Mapping[str, Maker]
    """Classes that the caller brings along, under the names that the topology uses."""

    def of(self, agent: AgentSettings, at: Location) -> Maker | None:
        """What makes this process; None after telling a mistake."""
        if agent.module or agent.class_:
            return self._by_module(agent, at)
        if agent.type is None:
            self.mistakes.add((*at, "type"), "this key is missing: a type, or 'module' and 'class', says which class it is.")
            return None
        given = self.agent_classes.get(agent.type) or self.node_types.get(agent.type)
        if given is not None:
            return given
        if agent.type in NODE_TYPES:
            return self._by_table(agent.type, at)
        module, _, name = agent.type.replace(":", ".").rpartition(".")
        if module:
            return self._load(module, name, (*at, "type"), (*at, "type"))
        known = [*self.agent_classes, *self.node_types, *NODE_TYPES, "supervisor"]
        hint = nearest(agent.type, known) or f" Known: {', '.join(known)}, or the dotted path of a class (module.Class)."
        self.mistakes.add((*at, "type"), f"there is no type {shown(agent.type)}.{hint}")
        return None

    def _by_table(self, name: str, at: Location) -> Maker | None:
        if name in _ABSTRACT:
            self.mistakes.add(
                (*at, "type"), f"{name!r} needs a class: add 'module' and 'class', or write the type as module.Class."
            )
            return None
        module, _, attribute = NODE_TYPES[name].partition(":")
        return getattr(importlib.import_module(module), attribute)

    def _by_module(self, agent: AgentSettings, at: Location) -> Maker | None:
        if not agent.module or not agent.class_:
            there, missing = ("module", "class") if agent.module else ("class", "module")
            self.mistakes.add((*at, missing), f"this key is missing: {there!r} needs it.")
            return None
        maker = self._load(agent.module, agent.class_, (*at, "module"), (*at, "class"))
        if maker is None or agent.type is None:
            return maker
        if agent.type not in NODE_TYPES:
            hint = nearest(agent.type, NODE_TYPES) or f" Known: {', '.join(NODE_TYPES)}."
            self.mistakes.add((*at, "type"), f"beside 'module' and 'class', {shown(agent.type)} is not a type.{hint}")
            return None
        module, _, attribute = NODE_TYPES[agent.type].partition(":")
        base: type = getattr(importlib.import_module(module), attribute)
        if not (isinstance(maker, type) and issubclass(maker, base)):
            self.mistakes.add(
                (*at, "class"), f"{agent.module}.{agent.class_} is not a {base.__name__}, as type {agent.type!r} says."
            )
            return None
        return maker

    # --- the user's modules -------------------------------------------------------------------------------------------

    def _load(self, module_name: str, class_name: str, module_at: Location, class_at: Location) -> Maker | None:
        module = self._import(module_name, module_at)
        if module is None:
            return None
        found: Any = getattr(module, class_name, None)
        if found is None:
            classes = [name for name, value in vars(module).items() if _is_node(value)]
            hint = nearest(class_name, classes) or (f" It has: {', '.join(classes)}." if classes else " It has no agents.")
            self.mistakes.add(class_at, f"module {module_name!r} has no class {class_name!r}.{hint}")
            return None
        return self._checked(found, f"{module_name}.{class_name}", class_at)

    def _checked(self, found: Any, name: str, at: Location) -> Maker | None:
        if _is_node(found):
            return cast("type[AgentProcess]", found)
        if isinstance(found, type) and issubclass(found, Supervisor):
            self.mistakes.add(at, f"{name} is a supervisor: a supervisor is written as {{supervisor: {{…}}}}.")
        else:
            what = "an AgentProcess" if isinstance(found, type) else f"a class but {type(found).__name__}"
            self.mistakes.add(at, f"{name} is not {what}.")
        return None

    def _import(self, name: str, at: Location) -> ModuleType | None:
        if not all(part.isidentifier() for part in name.split(".")):
            self.mistakes.add(at, f"{shown(name)} is not a module's name.")
            return None
        self._forget_namesake(name.partition(".")[0])
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
                self._tell_missing(name, at)
            else:
                self._tell_broken(name, error, at)
        except (Exception, SystemExit) as error:  # noqa: BLE001  # a border: the user's module may raise anything
            self._tell_broken(name, error, at)
        return None

    def _forget_namesake(self, top: str) -> None:
        """A module beside this topology wins over one of the same name that was imported from elsewhere."""
        loaded = sys.modules.get(top)
        if loaded is None or self.directory is None:
            return
        beside = PathFinder.find_spec(top, [str(self.directory.resolve())])
        if beside is None or beside.origin is None or beside.origin == getattr(loaded, "__file__", None):
            return
        for name in [name for name in sys.modules if name == top or name.startswith(f"{top}.")]:
            del sys.modules[name]

    def _tell_missing(self, name: str, at: Location) -> None:
        beside = [path.stem for path in self.directory.glob("*.py")] if self.directory else []
        hint = nearest(name, beside) or " It is looked for beside the topology file and among what is installed."
        self.mistakes.add(at, f"there is no module {name!r}.{hint}")

    def _tell_broken(self, name: str, error: BaseException, at: Location) -> None:
        text = str(error.msg if isinstance(error, SyntaxError) else error).partition("\n")[0]
        what = f"{type(error).__name__}: {text}" if text else type(error).__name__
        place = self._culprit(error)
        self.mistakes.add(at, f"module {name!r} cannot be imported: {f'{place}: ' if place else ''}{what}")

    def _culprit(self, error: BaseException) -> str:
        """File and line of the user's code: the innermost frame beside the topology, else the innermost of all."""
        if isinstance(error, SyntaxError) and error.filename:
            return f"{self._short(error.filename)}:{error.lineno}"
        frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith("<frozen ")]
        frames = [frame for frame in frames if frame.filename not in {__file__, importlib.__file__}]
        own = [frame for frame in frames if self.directory and Path(frame.filename).is_relative_to(self.directory.resolve())]
        innermost = (own or frames)[-1:]
        return f"{self._short(innermost[0].filename)}:{innermost[0].lineno}" if innermost else ""

    def _short(self, filename: str) -> str:
        """A file as the user would name it: as the topology's own name goes."""
        if self.directory is None or not Path(filename).is_relative_to(self.directory.resolve()):
            return filename
        return str(self.directory / Path(filename).relative_to(self.directory.resolve()))


def _is_node(value: Any) -> bool:
    return isinstance(value, type) and issubclass(value, AgentProcess | DynamicSupervisor)


# --- constructors -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Parameters:
    """What a constructor takes, besides the name that comes first."""

    names: frozenset[str]
    """Every keyword."""
    required: frozenset[str]
    """Those that have no default."""
    takes_name: bool
    """Whether there is a first positional parameter."""
    takes_any: bool
    """Whether it takes keywords that are not known."""


def parameters(maker: Maker) -> Parameters:
    """The parameters of a class or a function. `**kwargs` of a class are those of the class that it extends."""
    owners: list[Any] = [maker]
    if isinstance(maker, type):
        owners = [vars(base)["__init__"] for base in maker.__mro__ if "__init__" in vars(base) and base is not object]
    known: dict[str, inspect.Parameter] = {}
    first: inspect.Parameter | None = None
    required: set[str] = set()
    takes_any = True
    for depth, owner in enumerate(owners):
        found = list(inspect.signature(owner).parameters.values())[1 if isinstance(maker, type) else 0 :]
        takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in found)
        if depth == 0:
            first = next((p for p in found if p.kind in {p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD, p.VAR_POSITIONAL}), None)
            required = {p.name for p in found if p.default is p.empty and p.kind in {p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY}}
        known |= {p.name: p for p in found if p.kind in {p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY} and p.name not in known}
        if not takes_any:
            break
    own = {first.name} if first is not None else set[str]()
    return Parameters(frozenset(known.keys() - own - {"name"}), frozenset(required - own - {"name"}), first is not None, takes_any)


def keywords(maker: Maker, config: Mapping[str, Any]) -> Mapping[str, Any]:
    """The keyword arguments that `config:` stands for; a constructor with a parameter of that name gets the mapping whole."""
    whole = config and "config" not in config and "config" in parameters(maker).names
    return {"config": config} if whole else config
