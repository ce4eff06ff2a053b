"""What the `README.md` of an export says: the commands, and what they need."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from lamella.targets.aws.naming import Names
from lamella.targets.aws.outside import BUCKET, REPOSITORY, Outside


def readme(kind: str, names: Names, found: Outside) -> str:
    """The text.

    Args:
        kind: Which tool the export is for.
        names: Of the deployment.
        found: What is exported.
    """
    commands, notes = _KINDS[kind](names, found)
    if found.images:
        notes.append(_IMAGES)
    console = "\n".join(f"$ {command}" for command in commands)
    return f"# {names.stack}\n\n```console\n{console}\n```\n\n" + "\n\n".join(notes) + "\n"


_IMAGES = """By its digest each function knows its image; without `--preserve-digests`, skopeo compresses layers and
changes it. Whatever does that, such as `docker push` of what Docker has loaded, goes as well: the new digests are the
parameters `Digest...` of the stack. Who makes the stack needs `ecr:GetRepositoryPolicy` and `ecr:SetRepositoryPolicy`:
AWS Lambda adds that it may read the repository."""


def _cloudformation(names: Names, found: Outside) -> tuple[list[str], list[str]]:
    commands, given = [], []
    if found.images:
        commands += [_repository(names), *_pushed(names, found)]
        given.append(f"{REPOSITORY}=$REPOSITORY")
    if found.folders:
        commands += [f"aws s3 sync {folder} s3://BUCKET/{folder}" for folder in found.folders]
        given.append(f"{BUCKET}=BUCKET")
    commands.append(
        f"aws cloudformation deploy --region {names.region} --stack-name {names.stack} \\\n"
        "    --template-file template.json --s3-bucket BUCKET --capabilities CAPABILITY_NAMED_IAM \\\n"
        f"    --parameter-overrides {' '.join(given)}"
    )
    notes = ["`BUCKET` is any bucket of yours in that region. Deleting the stack needs its own bucket to be empty."]
    if "weights" in found.folders:
        notes.append(
            "Functions read their weights in `BUCKET` whenever they start: it must stay, and need no KMS key of yours."
        )
    return commands, notes


def _terraform(names: Names, found: Outside) -> tuple[list[str], list[str]]:
    images = ["terraform apply -target=aws_ecr_repository.images", *_pushed(names, found)] if found.images else []
    note = "`terraform destroy` needs the stack's own bucket, which the output names, to be empty."
    return ["terraform init", *images, "terraform apply"], [note]


def _cdk(names: Names, found: Outside) -> tuple[list[str], list[str]]:
    commands, given = ["pip install -r requirements.txt"], ""
    if found.images:
        commands += [_repository(names), *_pushed(names, found)]
        given = f" --parameters {REPOSITORY}=$REPOSITORY"
    changed = "In `app.py`, `included.get_resource(...)` gives any resource of the template, to change it."
    note = f"{changed} Destroying the stack needs\nits own bucket to be empty."
    return [*commands, f"npx aws-cdk@2 deploy{given}"], [note]


def _repository(names: Names) -> str:
    return f"aws ecr create-repository --region {names.region} --repository-name {names.repository}"


def _pushed(names: Names, found: Outside) -> list[str]:
    """From the OCI image layout to a repository that is there."""
    password = f"aws ecr get-login-password --region {names.region}"
    described = f"aws ecr describe-repositories --region {names.region} --repository-names {names.repository}"
    return [
        f"REPOSITORY=$({described} \\\n    --query 'repositories[0].repositoryUri' --output text)",
        f"{password} | skopeo login --username AWS --password-stdin ${{REPOSITORY%%/*}}",
        *(f"skopeo copy --preserve-digests oci:images:{image} docker://$REPOSITORY:{image}" for image in found.images),
    ]


_Steps = Callable[[Names, Outside], tuple[list[str], list[str]]]
_KINDS: Mapping[str, _Steps] = {"cloudformation": _cloudformation, "terraform": _terraform, "cdk": _cdk}
