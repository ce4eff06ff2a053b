"""The embedded serverless platform: functions in processes of their own, under the limits that a cloud would set.

`platform.py` is the way in. Behind it: what is deployed (`functions`), who waits for whom (`pool`, `admission`,
`events`), one function instance (`instance`), its process (`process`), what that may see and use (`namespaces`,
`sandbox`, `cgroup`), how it is spoken to (`runtime_api`), and what others speak to (`invoke_api`).
"""
