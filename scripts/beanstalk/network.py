"""Which subnets, one per zone: what the account has, what the owner names, and what the stack has already."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

ZONE_LETTERS = "abcdef"  # SubnetA ... SubnetF of the template


def zones_with(ec2: Any, instance_types: Sequence[str]) -> set[str]:
    """The zones where one of the types can be had at least: an environment elsewhere would never get its instances."""
    offered = ec2.describe_instance_type_offerings(
        LocationType="availability-zone", Filters=[{"Name": "instance-type", "Values": list(instance_types)}]
    )
    return {str(offer["Location"]) for offer in offered["InstanceTypeOfferings"]}


def network(
    ec2: Any, vpc_id: str | None, subnet_ids: Sequence[str], known: Mapping[str, str], usable_zones: Collection[str]
) -> tuple[str, dict[str, str]]:
    """The VPC, and a subnet by the letter of its zone.

    `known` is what the stack has: it stays, unless a subnet of that zone is named, so that a run with fewer arguments
    takes no mount target away. Zones that aren't usable are passed over, and so are Local and Wavelength Zones, where
    EFS isn't. SystemExit for what is named and can't be used.
    """
    if vpc_id is None:
        vpcs = ec2.describe_vpcs(Filters=[{"Name": "is-default", "Values": ["true"]}])["Vpcs"]
        if not vpcs:
            raise SystemExit("create-efs: this account has no default VPC; name one with --vpc and --subnet")
        vpc_id = str(vpcs[0]["VpcId"])
    zones = ec2.describe_availability_zones(Filters=[{"Name": "zone-type", "Values": ["availability-zone"]}])
    letters = {zone["ZoneName"]: zone["ZoneName"][-1] for zone in zones["AvailabilityZones"]}
    letters = {zone: letter for zone, letter in letters.items() if zone in usable_zones and letter in ZONE_LETTERS}
    subnets = ec2.describe_subnets(Filters=[{"Name": "vpc-id", "Values": [vpc_id]}])["Subnets"]
    found: dict[str, str] = {}
    for subnet in sorted(subnets, key=lambda one: (one["AvailabilityZone"], one["SubnetId"])):
        letter = letters.get(subnet["AvailabilityZone"])
        if letter and (not subnet_ids or subnet["SubnetId"] in subnet_ids):
            found.setdefault(letter, subnet["SubnetId"])
    unused = set(subnet_ids) - set(found.values())
    if unused:
        raise SystemExit(
            f"create-efs: {', '.join(sorted(unused))}: not in {vpc_id}, a second one of its zone, in a Local Zone, or"
            " in a zone that has none of the instance types (.ebextensions/10-environment.config, --arch)"
        )
    chosen = {**found, **known} if not subnet_ids else {**known, **found}
    if not chosen:
        raise SystemExit(f"create-efs: {vpc_id} has no subnet that can be used")
    return vpc_id, dict(sorted(chosen.items()))
