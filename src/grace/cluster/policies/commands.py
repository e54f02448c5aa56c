"""Rules about what containers run: no waiting for nothing, no installing."""

import re
from collections.abc import Iterator, Sequence

from grace.cluster.policies.finding import Hit
from grace.cluster.policies.pods import Container, Pod
from grace.cluster.policies.reading import at, items, mapping, text, title
from grace.cluster.policies.subject import Subject

_WORD = r"(?:^|[\s;&|(`{{'\"/=]){}(?=$|[\s;&|()`}}'\"])"
_FOLLOWED = r"(?=[^;&|\n]*\s(?:-\w*[fF]\w*|--follow\S*)(?:\s|$))"
_SLEEP = re.compile(
    "|".join(
        (
            _WORD.format("u?sleep"),
            r"\btime\.sleep\s*\(",
            r"\bStart-Sleep\b",
            _WORD.format("pause"),
            rf"\btail\b{_FOLLOWED}[^;&|\n]*/dev/null\b",
            r"\bwhile\s+(?:true|:|\[\s*1\s*\]|1)\s*;\s*do\s+(?::|true|read\b[^;]*|wait\b[^;]*)\s*;",
            r"\bread\s*<>\s*<\(\s*:\s*\)",
            r"\bcat\s*<?\s*/dev/(?:zero|tty|full)\b",
            r"\bthreading\.Event\(\)\.wait\(\s*\)",
            r"\bsignal\.pause\s*\(",
        )
    )
)
_INSTALL = re.compile(
    "|".join(
        (
            r"\bpip[0-9.]*\s+(?:-\S+\s+)*(?:install|download|wheel)\b",
            r"\buv\s+(?:pip\s+)?(?:install|sync|add|tool\s+install)\b",
            r"\b(?:micro)?(?:conda|mamba)\s+(?:-\S+\s+)*(?:env\s+)?(?:install|create|update)\b",
            r"\b(?:poetry|pipx|npm|pnpm|yarn|gem|cargo|go)\s+(?:install|add|get)\b",
            r"\b(?:apt|apt-get|aptitude|apk|yum|dnf|microdnf|zypper|brew)\s+(?:-\S+\s+)*"
            r"(?:install|add|update|upgrade)\b",
            r"\bgit\s+(?:-\S+\s+(?:[^-\s]\S*\s+)?)*?(?:clone|pull|fetch)\b",
            r"\b(?:curl|wget)\b[^;&]*\|\s*(?:sudo\s+)?(?:bash|dash|zsh|sh)\b",
        )
    )
)
# What may stand before the command that is really run.
_WRAPPERS = frozenset(
    [
        "env",
        "exec",
        "timeout",
        "nice",
        "nohup",
        "tini",
        "dumb-init",
        "catatonit",
        "busybox",
        "setsid",
        "stdbuf",
        "time",
        "ionice",
        "sudo",
        "gosu",
        "su-exec",
        "xargs",
        "watch",
        "sh",
        "bash",
        "ash",
        "dash",
        "zsh",
        "ksh",
        "fish",
    ]
)


def sleeping(subject: Subject) -> Iterator[Hit]:
    """Yield containers of Jobs that sleep, or wait for nothing, in any form."""
    for pod, container in subject.containers:
        if pod.kind not in {"Job", "CronJob"}:
            continue
        found = _found(container.words, _SLEEP) or _bare_sleep(container.words)
        if found:
            yield Hit(pod.title, _field(container), _joined(container.words), f"found {found!r}")
        yield from _sleeping_hooks(pod, container)
    yield from _in_scripts(subject, subject.jobs, _SLEEP)


def _in_scripts(subject: Subject, pods: Sequence[Pod], pattern: re.Pattern[str]) -> Iterator[Hit]:
    """Yield scripts in ConfigMaps that pods mount."""
    names = dict.fromkeys(name for pod in pods for name in pod.config_maps)
    for name in names:
        config = subject.named("ConfigMap", name)
        for key, value in mapping(at(config, "data")).items():
            is_script = text(value).startswith("#!") or key.endswith((".sh", ".bash", ".py"))
            match = pattern.search(text(value)) if is_script else None
            if config is not None and match:
                yield Hit(title(config), f"data[{key}]", match.group().strip())


def _sleeping_hooks(pod: Pod, container: Container) -> Iterator[Hit]:
    for name, hook in mapping(container.spec.get("lifecycle")).items():
        path = f"{container.path}.lifecycle.{name}"
        words = tuple(str(word) for word in items(at(hook, "exec.command")))
        if "sleep" in mapping(hook):
            yield Hit(pod.title, f"{path}.sleep", mapping(hook)["sleep"])
        elif _found(words, _SLEEP) or _bare_sleep(words):
            yield Hit(pod.title, f"{path}.exec.command", _joined(words))


def installing(subject: Subject) -> Iterator[Hit]:
    """Yield containers that install or clone what should be in their image."""
    for pod, container in subject.containers:
        found = _found(container.words, _INSTALL)
        if found:
            yield Hit(pod.title, _field(container), _joined(container.words), f"found {found!r}")
    yield from _in_scripts(subject, subject.pods, _INSTALL)


def _found(words: Sequence[str], pattern: re.Pattern[str]) -> str:
    """Return what a pattern finds in a command; scripts are single words of it."""
    scripts = [word for word in words if re.search(r"\s|;", word)]
    # The words themselves, so that `["pip", "install"]` is found like the same in a script; each
    # script stands by itself, and so do flags' values.
    plain = " ".join(word for word in words if word not in scripts)
    matches = [*map(pattern.search, scripts), _in_plain(pattern, plain)]
    return next((match.group().strip(" ;&|('\"`/{") for match in matches if match), "")


def _in_plain(pattern: re.Pattern[str], plain: str) -> re.Match[str] | None:
    """Search words that no shell reads: a lone `sleep` there may be a name, and is looked at apart."""
    for match in pattern.finditer(plain):
        if match.group().strip(" /") not in {"sleep", "usleep", "pause"}:
            return match
    return None


def _bare_sleep(words: Sequence[str]) -> str:
    """Return the word of a command that sleeps, not that of a name that is handed over."""
    for number, word in enumerate(words):
        if word.rsplit("/", 1)[-1] not in {"sleep", "usleep", "pause"}:
            continue
        before = words[:number]
        if not before or before[0].rsplit("/", 1)[-1] in _WRAPPERS or before[-1] == "--":
            return word
        if not before[-1].startswith("-"):
            return word
    return ""


def _field(container: Container) -> str:
    return f"{container.path}.{'command' if container.spec.get('command') else 'args'}"


def _joined(words: Sequence[str]) -> str:
    return " ".join(words)
