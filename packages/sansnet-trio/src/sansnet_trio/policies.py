"""The policy of a network's configuration, and its replacement."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from sansnet_core import Action, ConfigError, Endpoint, Rule
from sansnet_core.addresses import Prefix
from sansnet_core.config import ResolverConfig
from sansnet_core.errors import expect
from sansnet_core.policy import Policy, carried
from sansnet_core.records import replace
from sansnet_trio.hostinfo import InterfaceAddress
from sansnet_trio.plan.resolver import choose_prefixes, used_networks

if TYPE_CHECKING:
    from sansnet_core import NetworkConfig
    from sansnet_trio.decisions import NewFlow

__all__ = ["completed", "policy_of", "rule_for", "with_policy"]

_DNS: Final = 53


def policy_of(config: NetworkConfig) -> Policy:
    """The policy of a configuration: its rules, default action, kind of names and proxies."""
    return Policy(
        rules=config.rules,
        default_action=config.default_action or Action.ALLOW,
        names=config.resolver.names if config.resolver else None,
        proxies=config.proxies,
    )


def completed(policy: Policy, present: Policy) -> Policy:
    """A policy that gets the default action and the kind of names from the present one if it has none."""
    expect("policy", policy, Policy, "a Policy of sansnet_core.policy")
    return replace(
        policy,
        default_action=policy.default_action or present.default_action,
        names=policy.names or present.names,
    )


def with_policy(
    config: NetworkConfig,
    policy: Policy,
    present: ResolverConfig | None = None,
    planned: ResolverConfig | None = None,
) -> NetworkConfig:
    """A configuration with another policy.

    If rules have names, and the configuration has no resolver, it gets one. A resolver stays, because the guest may
    still have addresses that it gave.

    Args:
        config: the configuration.
        policy: its new policy. Without a default action, that of `config` stays.
        present: the resolver that the guest has now, if `config` does not say so.
        planned: the resolver to give, from a `Setup`. None makes one from the configuration: it asks the same name
            servers, and names get networks that the guest does not use, as far as the configuration tells.

    Raises:
        ConfigError: rules have names, but the guest has no name server; or the policy is wrong in another way.
    """
    expect("policy", policy, Policy, "a Policy of sansnet_core.policy")
    resolver = config.resolver
    if resolver is None and (present is not None or policy.needs_resolver):
        resolver = _resolver(config, present, planned)
    if resolver is not None and policy.names is not None:
        resolver = replace(resolver, names=policy.names)
    return replace(
        config,
        rules=policy.rules,
        default_action=policy.default_action or config.default_action,
        proxies=policy.proxies,
        resolver=resolver,
    )


def _resolver(config: NetworkConfig, present: ResolverConfig | None, planned: ResolverConfig | None) -> ResolverConfig:
    forward = dict(config.dns_forward)
    servers = tuple(forward.get(address) or Endpoint(address, _DNS) for address in config.dns_servers)
    if planned is not None:
        servers = planned.servers
    if present is not None:
        return replace(present, servers=servers)
    if not (servers and config.dns_servers):
        raise ConfigError("rules: they have names, but the guest has no name server; start it with one")
    if planned is not None:
        return planned
    families = tuple(version for version, family in ((6, config.ipv6), (4, config.ipv4)) if family is not None)
    prefix4, prefix6 = choose_prefixes((*used_networks(config, _own(config), ()), *config.host_addresses))
    return ResolverConfig(servers=servers, families=families, prefix4=prefix4, prefix6=prefix6)


def _own(config: NetworkConfig) -> Iterator[InterfaceAddress]:
    """The guest's addresses, as far as the configuration has them."""
    if config.ipv4 is not None and config.ipv4.address is not None:
        yield InterfaceAddress(config.ipv4.address, config.ipv4.prefix_length)
    if config.ipv6 is not None and config.ipv6.address is not None:
        yield InterfaceAddress(config.ipv6.address, 64)


def rule_for(flow: NewFlow, action: Action) -> Rule:
    """A rule about a flow and all flows like it: by name if it has one, else by address; with protocol and port."""
    address = flow.destination.address
    # An address that carries an IPv4 address is judged by both
    both = [address, *carried(address)]
    port = flow.guest.port if flow.inbound else flow.destination.port
    return Rule(
        action=action,
        protocols=(flow.protocol,),
        names=() if flow.name is None else (flow.name,),
        destinations=[Prefix(one, 8 * len(one)) for one in both] if flow.name is None else (),
        ports=() if flow.protocol == "ping" else (port,),
        inbound=flow.inbound,
    )
