"""Finding, loading and checking plugins, and choosing the codec of a stream.

A plugin is a module named by an entry point of the group `tornado_live`, or a single `.py` file in
`codecs.plugins_dir`. The built-in codecs enter by the same door. A plugin that cannot be used is
named in a warning and left out: it never stops the server.
"""

from __future__ import annotations

import importlib.util
import logging
import re
import sys
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

import pluggy

from tornado_live import hookspecs
from tornado_live.audio import SNIFF_BYTES, AudioDecoder, Codec, DecodeLimits, StreamFormat
from tornado_live.errors import AudioHeaderMissing, LiveError, UnsupportedAudio
from tornado_live.guard import SNIFF_DEADLINE_S, FaultCounter, GuardedDecoder, codec_failed, in_time

ENTRY_POINT_GROUP = "tornado_live"

BUILT_IN = "tornado-live"
"""The distribution whose codecs are called without a guard against hanging, and never switched off."""

_CODEC_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]*\Z")

T = TypeVar("T")

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LoadedCodec:
    """A codec and where it comes from.

    Attributes:
        codec: what the plugin returned.
        plugin: the entry point's or file's name, which `codecs.disabled` takes.
        source: the distribution and its version, or the file's name.
        built_in: it is part of this server.
    """

    codec: Codec
    plugin: str
    source: str
    built_in: bool


class PluginProblem(Exception):
    """Why a plugin is left out: the end of a sentence that begins with its name."""


@dataclass(frozen=True, slots=True)
class _Found:
    """A plugin that is not imported yet; `load` imports it."""

    name: str
    source: str
    built_in: bool
    load: Callable[[], object]


class CodecRegistry:
    """The codecs that are loaded, and the choice between them. Made once, by `load`.

    Attributes:
        codecs: in the order in which they are asked, third parties' first.
    """

    def __init__(self, codecs: Iterable[LoadedCodec]) -> None:
        self.codecs = tuple(codecs)
        self._faults = FaultCounter()
        self._loaded = {loaded.codec.name: loaded for loaded in self.codecs}
        with_header = [loaded for loaded in self.codecs if not loaded.codec.headerless]
        self._strong = [loaded for loaded in with_header if not loaded.codec.weak_magic]
        self._weak = [loaded for loaded in with_header if loaded.codec.weak_magic]

    @classmethod
    def load(cls, disabled: Collection[str] = (), plugins_dir: str | None = None) -> CodecRegistry:
        """Loads every plugin that is installed or lies in `plugins_dir`.

        Args:
            disabled: names of entry points and files (without `.py`) that are not even imported.
            plugins_dir: a folder of single-file plugins; files that begin with `_` are skipped.
        """
        manager = pluggy.PluginManager("tornado_live")
        manager.add_hookspecs(hookspecs)
        usable: dict[str, _Found] = {}
        for found in _find(disabled, plugins_dir):
            try:
                _register(manager, found)
            except Exception as exc:
                _leave_out(found, exc)
            else:
                usable[found.name] = found
        return cls(_collect(manager, usable))

    @property
    def supported(self) -> tuple[str, ...]:
        """The names of the formats that can be sent."""
        return tuple(sorted(loaded.codec.name for loaded in self._usable()))

    def recognise(self, head: bytes, declared: StreamFormat, *, ended: bool = False) -> Codec | None:
        """Chooses the codec of a stream by its first bytes, and by its label where it has no header.

        Args:
            head: all bytes of the stream so far, at least one; codecs are shown `SNIFF_BYTES` of them.
            declared: what the client says of the stream.
            ended: no more bytes will come, so None is never returned.

        Returns:
            The codec, or None if more bytes are needed.

        Raises:
            AudioHeaderMissing: the label names a codec whose header the bytes do not begin with.
            UnsupportedAudio: no codec wants the stream.
        """
        labelled = next((each.codec for each in self._usable() if names(each.codec, declared)), None)
        certain = ended or len(head) >= SNIFF_BYTES
        head = head[:SNIFF_BYTES]
        headerless = labelled is not None and labelled.headerless
        for loaded in self._strong if headerless else self._strong + self._weak:
            verdict = self._sniff(loaded, head, declared)
            if verdict:
                return loaded.codec
            if verdict is None and not certain:
                return None
        if labelled is None:
            formats = ", ".join(self.supported)
            raise UnsupportedAudio(f"The server cannot decode this kind of audio; it takes {formats}.")
        if not labelled.headerless:
            raise AudioHeaderMissing
        return labelled

    def begins_stream(self, chunk: bytes, declared: StreamFormat) -> bool:
        """Whether a chunk in the middle of a session begins a new stream: a recorder was restarted.

        Only magics that do not occur by chance inside another stream count.
        """
        head = chunk[:SNIFF_BYTES]
        return any(self._sniff(loaded, head, declared) for loaded in self._strong)

    def open(self, codec: Codec, declared: StreamFormat, limits: DecodeLimits) -> GuardedDecoder:
        """Makes the decoder of a new stream; whatever the plugin does, it raises `LiveError` only.

        Raises:
            AudioError: the declared format cannot be used.
            CodecFailed: the plugin is broken.
        """
        loaded = self._loaded[codec.name]
        faults = None if loaded.built_in else self._faults
        try:
            decoder = _call(loaded, partial(codec.open, declared, limits))
            if not isinstance(decoder, AudioDecoder):
                raise TypeError(f"open returned {type(decoder).__name__}, not an AudioDecoder")
        except LiveError:
            raise
        except Exception as exc:
            raise codec_failed(codec, exc, faults) from exc
        return GuardedDecoder(codec, decoder, faults)

    def _usable(self) -> Iterator[LoadedCodec]:
        return (loaded for loaded in self.codecs if not self._faults.is_off(loaded.codec.name))

    def _sniff(self, loaded: LoadedCodec, head: bytes, declared: StreamFormat) -> bool | None:
        if self._faults.is_off(loaded.codec.name):
            return False
        try:
            verdict = _call(loaded, partial(loaded.codec.sniff, head, declared))
            if verdict is not None and not isinstance(verdict, bool):
                raise TypeError(f"sniff returned {type(verdict).__name__}, not a bool or None")
        except Exception as exc:
            codec_failed(loaded.codec, exc, None if loaded.built_in else self._faults)
            return False
        return verdict


def names(codec: Codec, declared: StreamFormat) -> bool:
    """Whether the label that the client gave means this codec."""
    label = declared.media_type
    return label in (codec.name, *codec.mime_types, *codec.labels)


def _call(loaded: LoadedCodec, call: Callable[[], T]) -> T:
    return call() if loaded.built_in else in_time(SNIFF_DEADLINE_S, call)


def _find(disabled: Collection[str], plugins_dir: str | None) -> Iterator[_Found]:
    installed = entry_points(group=ENTRY_POINT_GROUP)
    for entry in sorted(installed, key=lambda each: (not _is_built_in(each), each.name)):
        if entry.name not in disabled:
            source = f"{entry.dist.name} {entry.dist.version}" if entry.dist else entry.value
            yield _Found(entry.name, source, _is_built_in(entry), entry.load)
    if plugins_dir is None:
        return
    folder = Path(plugins_dir)
    if not folder.is_dir():
        log.warning("codecs.plugins_dir is not a folder; no plugin is loaded from it")
    for file in sorted(folder.glob("*.py")):
        if not file.name.startswith("_") and file.stem not in disabled:
            yield _Found(file.stem, file.name, False, partial(_import_file, file))


def _is_built_in(entry: EntryPoint) -> bool:
    return entry.dist is not None and entry.dist.name == BUILT_IN


def _import_file(file: Path) -> ModuleType:
    name = f"tornado_live_plugin_{file.stem}"
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise PluginProblem("is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up there while it is executed
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _register(manager: pluggy.PluginManager, found: _Found) -> None:
    manager.register(found.load(), name=found.name)
    try:
        manager.check_pending()
    except pluggy.PluginValidationError:
        manager.unregister(name=found.name)
        raise
    if not manager.get_hookcallers(manager.get_plugin(found.name)):
        raise PluginProblem("implements no hook of tornado_live.hookspecs")


def _collect(manager: pluggy.PluginManager, plugins: dict[str, _Found]) -> list[LoadedCodec]:
    """Calls the hook of each plugin by itself, so that one that fails does not take the others along."""
    taken: dict[str, str] = {}
    asked_last: list[list[LoadedCodec]] = []
    for implementation in manager.hook.tornado_live_codecs.get_hookimpls():
        found = plugins[implementation.plugin_name]
        try:
            returned: Any = implementation.function()
            codecs = [_checked(codec) for codec in returned]
            for codec in codecs:
                if codec.name in taken:
                    raise PluginProblem(f"offers a codec {codec.name!r}, as {taken[codec.name]} does already")
            taken.update((codec.name, found.source) for codec in codecs)
        except Exception as exc:
            _leave_out(found, exc)
        else:
            asked_last.append([LoadedCodec(c, found.name, found.source, found.built_in) for c in codecs])
    return [loaded for plugin in reversed(asked_last) for loaded in plugin]


def _checked(codec: object) -> Codec:
    if not isinstance(codec, Codec):
        raise PluginProblem(f"returned {type(codec).__name__} where a Codec belongs")
    if not _CODEC_NAME.match(codec.name):
        raise PluginProblem(f"names a codec {codec.name!r}: use lower-case letters, digits, '.', '_' and '-'")
    if not (callable(codec.sniff) and callable(codec.open)):
        raise PluginProblem(f"offers a codec {codec.name!r} whose sniff or open cannot be called")
    if not (isinstance(codec.mime_types, tuple) and isinstance(codec.labels, tuple)):
        raise PluginProblem(f"offers a codec {codec.name!r} whose mime_types or labels are not tuples")
    return codec


def _leave_out(found: _Found, exc: Exception) -> None:
    reason = str(exc) if isinstance(exc, PluginProblem) else f"cannot be used: {type(exc).__name__}: {exc}"
    traceback = None if isinstance(exc, PluginProblem) else exc
    log.warning("plugin %s (%s) is left out; it %s", found.name, found.source, reason, exc_info=traceback)
