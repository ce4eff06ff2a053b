"""AWS: one CloudFormation stack a deployment and stage.

Everything but `account` and `target` is pure: values in, values out, no network.

```text
settings   Settings, checked before anything is asked of AWS        checks     what settings and a release contradict
naming     Names: of the stack and of all that is in it, and tags   release    Release, Function, Model: what is deployed
template   template(...), foundation(...): CloudFormation as a dict, with outputs
storage network mounts functions access doors events state_machine   the resources, one file a subject
iam_policies  what a user must be allowed, each action with its reason
price      what a stack costs a month and for 1,000 requests        export     folders for other tools
```

How whoever talks to AWS uses them:

1. `settings.check()`, `check_release(settings, release)`: errors before anything is made.
2. `foundation(names, settings)` is deployed as `names.stack`. Its output `Bucket` names the bucket; packages go to the
   keys of their `ZipCode`, images into the repository of the output `Repository`, weights to `weights/DIGEST`, and files
   of a mount to `mount/DIGEST/...` (with `efs` the function of the output `Loader` copies them to the file system: it is
   invoked with `{"prefix": "mount/DIGEST/"}`).
3. `published(names, settings, release)` gives a new release the logical ids of its versions. They are kept with it for
   good (`Function.version`), since a later Lamella might compute others: then CloudFormation would publish anew.
4. `template(names, settings, releases, live=N)` is deployed as an update: `releases` are all that are kept, the newest
   last; `live` is the number of the one that aliases and workflows stand for. A rollback is the same with another `live`.

The stack's outputs are `Bucket`, `Store`, `Release`, for each model `Workflow...` (as JSON: `model`, `kind`, `arn`,
`inline_bytes`), and, where there are such, `Door`, `HttpApi`, `FunctionUrl`, `Queue`, `DeadLetters`, `Repository`,
`FileSystem`, `Loader`.

A function's environment holds `LAMELLA_STORE` (`s3://BUCKET`); with `direct`, `LAMELLA_NEXT` (what to invoke next) but in
the last slice; the door's also `LAMELLA_WORKFLOW`: a JSON object with `{"kind", "arn", "inline_bytes"}` for each model's
name, `LAMELLA_NAME` (its own, to invoke itself for asynchronous requests), and with `s3_events` `LAMELLA_EVENTS`:
`{"inputs": "inbox/", "results": "outbox/"}`.
"""
