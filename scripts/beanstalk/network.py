"""Which subnets, one per zone: what the account has, what the owner names, and what the stack has already."""

from collections.abc import Mapping, Sequence
from typing import Any

ZONE_LETTERS = "abcdef"  # SubnetA ... SubnetF of the template


def network(
    ec2: Any, vpc_id: str | None, subnet_ids: Sequence[str], known: Mapping[str, str]
) -> tuple[str, dict[str, str]]:
    """The VPC, and a subnet by the letter of its zone.

    `known` is what the stack has: it stays, unless a subnet of that zone is named, so that a run with fewer arguments
    takes no mount target away. Local and Wavelength Zones, where EFS isn't, are passed over. SystemExit for what can't
    be used.
    """
    if vpc_id is None:
        vpcs = ec2.describe_vpcs(Filters=[{"Name": "is-default", "Values": ["true"]}])["Vpcs"]
        if not vpcs:
            raise SystemExit("create-efs: this account has no default VPC; name one with --vpc and --subnet")
        vpc_id = str(vpcs[0]["VpcId"])
    zones = ec2.describe_availability_zones(Filters=[{"Name": "zone-type", "Values": ["availability-zone"]}])
    letters = {zone["ZoneName"]: zone["ZoneName"][-1] for zone in zones["AvailabilityZones"]}
    subnets = ec2.describe_subnets(Filters=[{"Name": "vpc-id", "Values": [vpc_id]}])["Subnets"]
    found: dict[str, str] = {}
    for subnet in sorted(subnets, key=lambda one: (one["AvailabilityZone"], one["SubnetId"])):
        letter = letters.get(subnet["AvailabilityZone"], "")
        if letter and letter in ZONE_LETTERS and (not subnet_ids or subnet["SubnetId"] in subnet_ids):
            found.setdefault(letter, subnet["SubnetId"])
    unused = set(subnet_ids) - set(found.values())
    if unused:
        raise SystemExit(
            f"create-efs: not in {vpc_id}, a second one of its zone, or in a Local Zone: {', '.join(sorted(unused))}"
        )
    chosen = {**found, **known} if not subnet_ids else {**known, **found}
    if not chosen:
        raise SystemExit(f"create-efs: {vpc_id} has no subnet")
    return vpc_id, dict(sorted(chosen.items()))


def check_instance_types(ec2: Any, types: Sequence[str], subnets: Mapping[str, str], region: str) -> None:
    """SystemExit naming the zones that have none of `types`: an environment there would never get its instances."""
    offered = ec2.describe_instance_type_offerings(
        LocationType="availability-zone", Filters=[{"Name": "instance-type", "Values": list(types)}]
    )["InstanceTypeOfferings"]
    zones = {offer["Location"] for offer in offered}
    lacking = [f"{region}{letter} ({subnet})" for letter, subnet in subnets.items() if f"{region}{letter}" not in zones]
    if lacking:
        raise SystemExit(
            f"create-efs: none of {', '.join(types)} can be had in {', '.join(lacking)};"
            " name the other zones' subnets with --subnet, or other types in .ebextensions/10-environment.config"
        )
