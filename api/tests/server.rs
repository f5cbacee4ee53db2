//! What the definition makes the API server refuse: `policies/refused-by-the-server.txt` has one spec a line. The check that
//! every reader makes refuses each of them too, so that a file and a cluster take the same policies. That a real API server
//! does is shown by the tests of the daemon's conversation with a cluster.
#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

#[test]
fn what_the_api_server_refuses_is_refused_in_a_file_too() {
    let specs: Vec<&str> = include_str!("policies/refused-by-the-server.txt").lines().collect();
    assert!(specs.len() > 30);
    for spec in specs {
        let head = "apiVersion: portwright.dev/v1alpha1\nkind: NodePolicy\nmetadata: {name: x}\nspec:\n  ";
        let text = format!("{head}{spec}\n");
        assert!(portwright_api::load([("policy.yaml", text.as_str())]).is_err(), "{spec}");
    }
}
