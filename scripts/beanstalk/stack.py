"""A CloudFormation stack: created, updated, or cleared away after a creation that failed."""

import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

EFS_TEMPLATE = Path(__file__).resolve().parents[2] / "efs_layout" / "efs.yaml"
JOBS_TEMPLATE = Path(__file__).resolve().parent / "jobs.yaml"
_NEVER_CAME_UP = ("ROLLBACK_COMPLETE", "ROLLBACK_FAILED", "CREATE_FAILED", "REVIEW_IN_PROGRESS", "DELETE_FAILED")
_LOOK_EVERY_S = 5.0


class Stack:
    """One stack by its name."""

    def __init__(self, cloudformation: Any, name: str, template: Path, look_every_s: float = _LOOK_EVERY_S) -> None:
        self._cloudformation, self._name, self._template = cloudformation, name, template
        self._look_every_s = look_every_s

    def parameters(self) -> dict[str, str]:
        """Of the stack as it is; {} where there is none, or where it never came up. Waits for a change under way."""
        stack = self._settled()
        if stack is None or stack["StackStatus"] in _NEVER_CAME_UP:
            return {}
        return {one["ParameterKey"]: one["ParameterValue"] for one in stack.get("Parameters", ())}

    def put(self, parameters: Mapping[str, str]) -> dict[str, str]:
        """Create it, or update it; wait; its outputs. SystemExit with CloudFormation's reason if that fails."""
        request = {
            "StackName": self._name,
            "TemplateBody": self._template.read_text(),
            "Parameters": [{"ParameterKey": key, "ParameterValue": value} for key, value in parameters.items()],
            "Capabilities": ["CAPABILITY_IAM"],
        }
        stack = self._settled()
        if stack is not None and stack["StackStatus"] in _NEVER_CAME_UP:
            self._clear_away(stack["StackStatus"])
            stack = None
        errors = self._cloudformation.exceptions.ClientError
        try:
            if stack is None:
                self._cloudformation.create_stack(**request, EnableTerminationProtection=True)
            else:
                self._cloudformation.update_stack(**request)
        except errors as error:
            if "No updates are to be performed" not in str(error):
                raise SystemExit(f"create-efs: {error}") from None
            self._say("is up to date")
        else:
            self._wait("create" if stack is None else "update")
        return {output["OutputKey"]: output["OutputValue"] for output in self._existing()["Outputs"]}

    def _settled(self) -> dict[str, Any] | None:
        """Once nothing changes it any more: an earlier run that was interrupted goes on in AWS."""
        told = False
        while True:
            stack = self._describe()
            status = "" if stack is None else str(stack["StackStatus"])
            if not status.endswith("_IN_PROGRESS") or status in _NEVER_CAME_UP:
                return stack
            if not told:
                self._say(f"waiting for what is under way ({status})")
                told = True
            time.sleep(self._look_every_s)

    def _describe(self) -> dict[str, Any] | None:
        try:
            return self._existing()
        except self._cloudformation.exceptions.ClientError as error:
            if "does not exist" in str(error):
                return None
            raise

    def _existing(self) -> dict[str, Any]:
        found: dict[str, Any] = self._cloudformation.describe_stacks(StackName=self._name)["Stacks"][0]
        return found

    def _clear_away(self, status: str) -> None:
        """A stack whose creation failed can't be updated; nothing in it is worth keeping, the file system included."""
        self._say(f"never came up ({status}); deleting what is left of it")
        self._cloudformation.update_termination_protection(StackName=self._name, EnableTerminationProtection=False)
        self._cloudformation.delete_stack(StackName=self._name)
        self._wait("delete")

    def _wait(self, verb: str) -> None:
        self._say(f"waiting for its {verb} (minutes)")
        try:
            self._cloudformation.get_waiter(f"stack_{verb}_complete").wait(StackName=self._name)
        except Exception:  # botocore's WaiterError has no public base that says more
            events = self._cloudformation.describe_stack_events(StackName=self._name)["StackEvents"]
            failed = [event for event in events if "FAILED" in event["ResourceStatus"]]
            why = [f"  {event['LogicalResourceId']}: {event.get('ResourceStatusReason')}" for event in failed]
            raise SystemExit("\n".join([f"create-efs: the {verb} failed:", *reversed(why)])) from None

    def _say(self, text: str) -> None:
        print(f"create-efs: stack {self._name}: {text}", file=sys.stderr)
