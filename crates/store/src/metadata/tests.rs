use serde_json::json;

use super::*;

fn id() -> VmId {
    "0af3".parse().expect("a valid id")
}

#[test]
fn unknown_keys_and_the_order_of_all_keys_survive_a_rewrite() {
    let text = r#"{"zeta":1,"id":"0af3","status":"stopped","alpha":{"y":[1,2.5,null],"x":"\u00e9"},"vcpu":2}"#;
    let mut metadata = Metadata::parse(&id(), text.as_bytes()).expect("valid metadata");

    metadata.set_phase(Phase::Running);
    let again: Value = serde_json::from_slice(&metadata.to_bytes()).expect("valid JSON");

    let want = text.replace("stopped", "running");
    assert_eq!(again.to_string(), want.replace("\\u00e9", "é"));
}

#[test]
fn a_file_about_another_vm_is_damaged() {
    let refusal = Metadata::parse(&id(), json!({"id": "0af4"}).to_string().as_bytes());

    assert!(matches!(refusal, Err(Damage::WrongId { found }) if found == "0af4"));
}
