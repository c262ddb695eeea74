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

proptest::proptest! {
    #[test]
    fn a_time_that_another_program_wrote_keeps_every_digit(
        seconds in 1.0e9_f64..2.0e9, small in -1.0_f64..1.0
    ) {
        let text = format!(r#"{{"created_at":{seconds:?},"other":{small:?}}}"#);
        let metadata = Metadata::parse(&id(), text.as_bytes()).expect("valid metadata");

        let again: String = String::from_utf8(metadata.to_bytes()).expect("JSON is text");

        // The same number may be written another way (7.5e-5, 0.000075): its value is what stays.
        let number = |key: &str| -> Option<f64> {
            let (_, rest) = again.split_once(&format!(r#""{key}": "#))?;
            rest.split([',', '\n', '}']).next()?.parse().ok()
        };
        proptest::prop_assert_eq!(number("created_at").map(f64::to_bits), Some(seconds.to_bits()), "{}", again);
        proptest::prop_assert_eq!(number("other").map(f64::to_bits), Some(small.to_bits()), "{}", again);
    }
}

#[test]
fn secrets_and_numbers_in_the_environment_are_read_and_what_is_neither_is_left_out() {
    let text = json!({"env_vars": {"A": "x=y", "N": 1.5, "T": true, "L": [], "": "v", "Z": "\0"}});
    let metadata = Metadata::parse(&id(), text.to_string().as_bytes()).expect("valid metadata");

    let pairs: Vec<_> = metadata
        .env_vars()
        .iter()
        .map(|var| (var.key().to_owned(), var.value().to_owned()))
        .collect();

    let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    assert_eq!(pairs, [pair("A", "x=y"), pair("N", "1.5"), pair("T", "true")]);
}

#[test]
fn a_reason_and_a_process_are_read_as_they_were_written() {
    let mut metadata = Metadata::parse(&id(), b"{}").expect("valid metadata");
    let process = ProcessIdentity { pid: 7, start: u64::MAX, boot_id: "0b1c".to_owned() };
    let reason = StopReason::HostRebooted;

    metadata.set_process(Some(&process));
    metadata.set_stop_reason(Some(&reason));
    let read = Metadata::parse(&id(), &metadata.to_bytes()).expect("valid metadata");

    assert_eq!((read.process(), read.stop_reason()), (Some(process), Some(reason)));
    metadata.set_process(None);
    assert_eq!((metadata.process(), metadata.pid(), metadata.boot_id()), (None, None, None));
}
