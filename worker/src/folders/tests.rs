//! A container sees its user's folders and nothing outside of them.

use super::*;
use crate::scratch::Scratch;
use berth_common::id::Replica;
use serde_json::json;

fn start(owner: &str, sources: &[&str]) -> Start {
    let mounts: Vec<_> =
        sources.iter().map(|s| json!({"source": s, "target": "/m", "read_only": true})).collect();
    let mut spec = berth_common::spec::from_value(json!({"image": "busybox"})).expect("valid");
    spec.mounts = serde_json::from_value(json!(mounts)).expect("mounts");
    Start {
        replica: Replica { job: uuid::Uuid::nil(), attempt: 1, replica: 0 },
        owner: owner.into(),
        spec,
        gpus: Vec::new(),
        timeout_s: None,
        array_index: None,
        gang: None,
        password: String::new(),
    }
}

fn refused(folders: &Folders, owner: &str, source: &str) -> String {
    let fault = folders.binds(&start(owner, &[source])).expect_err("refused");
    assert_eq!(fault.kind, FaultKind::NeverStarts, "{fault:?}");
    fault.text
}

#[test]
fn the_users_folder_is_made_and_named_folders_below_it_are_found() {
    let root = Scratch::new();
    let folders = Folders { data: root.join("data"), public: Some(root.to_path_buf()) };
    std::fs::create_dir_all(root.join("data/ann/sets/c4")).expect("made");
    let binds = folders.binds(&start("ann", &["sets/c4"])).expect("binds");
    let targets: Vec<_> = binds.iter().map(|b| (b.target.as_str(), b.read_only)).collect();
    assert_eq!(targets, [("/data", false), ("/pub_data", true), ("/m", true)]);
    assert!(binds[2].source.ends_with("data/ann/sets/c4"), "{binds:?}");
    folders.binds(&start("bob", &[])).expect("binds");
    assert!(root.join("data/bob").is_dir());
}

#[test]
fn what_leads_out_of_the_users_folder_is_refused() {
    let root = Scratch::new();
    let folders = Folders { data: root.join("data"), public: None };
    for dir in ["data/ann", "data/bob", "secret"] {
        std::fs::create_dir_all(root.join(dir)).expect("made");
    }
    std::os::unix::fs::symlink(root.join("secret"), root.join("data/ann/link")).expect("linked");
    std::os::unix::fs::symlink(root.join("secret"), root.join("data/eve")).expect("linked");
    for source in ["link", "../bob", "..", "../../secret"] {
        assert!(refused(&folders, "ann", source).contains("leads out"), "{source}");
    }
    assert!(refused(&folders, "ann", "missing").contains("mounts/0"));
    for owner in ["", ".", "..", "a/b", "eve"] {
        refused(&folders, owner, "x");
    }
}
