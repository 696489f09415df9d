//! The documentation of the policy language is true: what it shows loads.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod policy_support;
use npmguard::policy::Subject;
use policy_support::{Project, dependency, profile, root};

#[test]
fn every_example_of_the_documentation_loads() {
    let page = include_str!("../docs/policy.md");
    let examples: Vec<&str> =
        page.split("```yaml\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    assert!(examples.len() > 15, "{}", examples.len());
    for example in examples {
        let policy =
            Project::with(example).load().unwrap_or_else(|error| panic!("{example}\n{}", error.render()));
        for subject in [dependency("my-driver"), root(), Subject::Manager] {
            profile(&policy, &subject);
        }
    }
}
