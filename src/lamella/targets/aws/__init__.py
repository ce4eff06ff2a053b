"""AWS: one CloudFormation stack a deployment and stage.

The first half is pure: values in, values out, no network. The second deploys what it says, and talks to AWS through
`account` alone.

```text
settings      Settings                                  checks    what settings and a release contradict
naming        Names of the stack and all that is in it  release   Release, Function, Model: what is deployed
template      template(...), foundation(...): CloudFormation as a dict, with its outputs
storage network mounts functions workflows state_machine doors events access logs: the resources, one file a subject
iam_policies  what a user must be allowed, each action with its reason
price         what a stack costs a month and for 1,000 requests
export exporting export_cdk export_readme export_terraform: folders for other tools
outside       a template for those who bring packages, weights and images themselves

target        AwsTarget: deploy, ask, follow, roll back, delete
loading       what brings models to a file system; network_interfaces: what must go before a network can
account       calls to AWS                              refusals  what AWS says no with, and the way out
stacks        stacks, made and changed by change sets   bucket    a deployment's bucket
images        images of slices, made on this machine    repository a deployment's images in Amazon ECR
record        what is deployed, kept in that bucket     releasing from what is wanted to a release, packages uploaded
history       how that changes with each version
preflight     quotas, asked before anything is made     leftovers what is left of what was deleted
asking invoking                                         requests, with the user's own credentials
following reports                                       logs, and what they say of each request
remembered    where this machine's user has deployed something
```

How the second half uses the first:

1. `settings.check()`, `check_release(settings, release)`: errors before anything is made. A release has a door of its
   own where `needs_door(settings, models)` says so (`Names.door`, `DOOR_MEMORY_MB`, `DOOR_TIMEOUT_S`).
2. `foundation(names, settings)` is deployed as `names.stack`. Its output `Bucket` names the bucket; packages go to the
   keys of their `ZipCode`, images into the repository of the output `Repository`, weights to `weights/DIGEST`, and
   files of a mount to `mount/DIGEST/...` (with `efs` the function of the output `Loader` copies them to the file
   system: see `loader.handle`). Functions find them in `mounts.MOUNT_PATH`. A stack that is there already gets a file
   system by `template(..., mount=KIND)` of what it holds, as it does where the code of its loader is another
   (`LoaderDigest`); from then on `mount=mount_of(outputs)` keeps it there.
3. `published(names, settings, release)` gives a new release the logical ids of its versions. They are kept with it for
   good (`Function.version`), since a later Lamella might compute others: then CloudFormation would publish anew.
4. `template(names, settings, releases, live=N)` is deployed as an update: `releases` are all that are kept, the newest
   last; `live` is the number of the one that aliases and workflows stand for. A rollback is the same with another.
   It needs the capability `CAPABILITY_NAMED_IAM`. `settings` are those with which the live release was made: they are
   kept with it. `check_kept(releases)` says what one stack cannot hold; another kind of `mount` it cannot hold, either.

The stack's outputs are `Bucket`, `Store`, `Release`, for each model one that begins with `Model` (JSON: `model`,
`kind`, `arn`, `inline_bytes`), and, where there are such, `Door`, `HttpApi`, `FunctionUrl`, `Queue`, `DeadLetters`,
`Repository`, `FileSystem`, `Loader`, `LoaderDigest`.

A function's environment holds `LAMELLA_STORE` (`s3://BUCKET`); with `direct`, `LAMELLA_NEXT`, the ARN of what it
invokes next, except in the last slice; in an export with `object-store`, `LAMELLA_WEIGHTS`, where its weights are, each
called by its digest. The door's also has `LAMELLA_WORKFLOW`, a JSON object with `{"kind", "arn",
"inline_bytes"}` for each model's name (with `single`, and a slice that is the door itself, its own name as `arn`), with
`asynchronous` `LAMELLA_NAME`, what it invokes to answer later (`NAME:live`), and with `s3_events` `LAMELLA_EVENTS`:
`{"inputs": "inbox/", "results": "outbox/"}`. A schedule sends each function the ping of `lamella.runtime.payload`.
"""
