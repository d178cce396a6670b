"""Configuration that travels with a version: copies of ConfigMaps whose names hold a hash of their content, so that an old Pod never reads new configuration.

As kustomize's configMapGenerator does it (kubernetes-sigs/kustomize, api/hasher). A copy is immutable: the kubelet then does not even watch it.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from core.fence import ENVIRONMENT

Document = dict[str, Any]

# On a copy: the name of the ConfigMap that it was made from.
CONFIG_OF = "nightshift.dev/config-of"
_HASH_LENGTH = 10
_COPY = re.compile(rf"(.+)-[0-9a-f]{{{_HASH_LENGTH}}}")


def copy_name(config_map: Document) -> str:
    """Given a ConfigMap, return its copy's name: its own and a hash over data and binaryData."""
    content = {key: config_map.get(key) or {} for key in ("data", "binaryData")}
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return f"{config_map['metadata']['name']}-{hashlib.sha256(text.encode()).hexdigest()[:_HASH_LENGTH]}"


def copy_document(config_map: Document, environment: str) -> Document:
    """Given a ConfigMap as it was read, return its immutable copy."""
    metadata = config_map["metadata"]
    content = {key: config_map[key] for key in ("data", "binaryData") if config_map.get(key)}
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": copy_name(config_map),
            "namespace": metadata["namespace"],
            "labels": {ENVIRONMENT: environment, CONFIG_OF: metadata["name"]},
        },
        **content,
        "immutable": True,
    }


def plain_name(name: str, config_maps: Iterable[str]) -> str | None:
    """Given a name that a template reads and the ConfigMaps that travel, return which of them it is, or is a copy of; None: it does not travel."""
    travelling = frozenset(config_maps)
    if name in travelling:
        return name
    match = _COPY.fullmatch(name)
    return match[1] if match and match[1] in travelling else None


def with_config_copies(template: Document, copies: Mapping[str, str]) -> Document:
    """Given a Pod template and each travelling ConfigMap's copy by name, return the template that reads the copies. A reference to an earlier copy is one too."""

    def renamed(reference: Document) -> Document:
        plain = plain_name(str(reference.get("name", "")), copies)
        return reference if plain is None else {**reference, "name": copies[plain]}

    return _mapped(template, "ConfigMap", renamed)


def config_map_names(template: Document) -> tuple[str, ...]:
    """The ConfigMaps that a Pod template reads, sorted."""
    return _names(template, "ConfigMap")


def secret_names(template: Document) -> tuple[str, ...]:
    """The Secrets that a Pod template reads or pulls its image with, sorted: a plan records their resourceVersions."""
    pulls = (one.get("name") for one in template["spec"].get("imagePullSecrets") or ())
    return tuple(sorted({*_names(template, "Secret"), *filter(None, pulls)}))


def unused_copies(copies: Iterable[Document], templates: Iterable[Document]) -> tuple[str, ...]:
    """Given the copies that exist and every Pod template that may run again (of Deployments, ReplicaSets, CronJobs), return the names that none reads, sorted."""
    read = {name for template in templates for name in config_map_names(template)}
    return tuple(sorted(one["metadata"]["name"] for one in copies if one["metadata"]["name"] not in read))


# Where a reference stands: in envFrom, in env's valueFrom, as a volume, as a source of a projected volume; and the key that holds the name.
_IN_ENV_FROM = {"ConfigMap": "configMapRef", "Secret": "secretRef"}
_IN_ENV = {"ConfigMap": "configMapKeyRef", "Secret": "secretKeyRef"}
_IN_VOLUME = {"ConfigMap": "configMap", "Secret": "secret"}
_CONTAINERS = ("containers", "initContainers", "ephemeralContainers")


def _names(template: Document, kind: str) -> tuple[str, ...]:
    found: set[str] = set()

    def note(reference: Document) -> Document:
        # A Secret's volume alone calls it secretName.
        found.add(str(reference.get("name") or reference.get("secretName") or ""))
        return reference

    _mapped(template, kind, note)
    return tuple(sorted(found - {""}))


def _mapped(template: Document, kind: str, change: Any) -> Document:
    """The template with every reference to a kind changed; the given one stays as it is."""
    spec = dict(template["spec"])
    for group in _CONTAINERS:
        if spec.get(group):
            spec[group] = [_container(one, kind, change) for one in spec[group]]
    if spec.get("volumes"):
        spec["volumes"] = [_volume(one, kind, change) for one in spec["volumes"]]
    return {**template, "spec": spec}


def _container(container: Document, kind: str, change: Any) -> Document:
    made = dict(container)
    if container.get("envFrom"):
        made["envFrom"] = list(_each(container["envFrom"], _IN_ENV_FROM[kind], change))
    if container.get("env"):
        made["env"] = [
            {**one, "valueFrom": next(_each([one["valueFrom"]], _IN_ENV[kind], change))}
            if one.get("valueFrom")
            else one
            for one in container["env"]
        ]
    return made


def _volume(volume: Document, kind: str, change: Any) -> Document:
    made = next(_each([volume], _IN_VOLUME[kind], change))
    if sources := (volume.get("projected") or {}).get("sources"):
        changed = list(_each(sources, _IN_VOLUME[kind], change))
        made = {**made, "projected": {**volume["projected"], "sources": changed}}
    return made


def _each(holders: Iterable[Document], key: str, change: Any) -> Iterator[Document]:
    for holder in holders:
        yield {**holder, key: change(holder[key])} if holder.get(key) else holder
