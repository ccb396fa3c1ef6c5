"""A deployment as Elastic Beanstalk performs it, on this machine: see docs/deploy.md, "Rehearsing"."""
