//! Who a command runs as, by the guest's own files.

use std::io::Read;

use bandsox_proto::v2::ErrorCode;
use rustix::process::geteuid;

/// More of `/etc/passwd` or `/etc/group` than this is not read.
const MAX_FILE: u64 = 1024 * 1024;

/// Most supplementary groups; Linux allows 65,536.
const MAX_GROUPS: usize = 1024;

/// A user, looked up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct User {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// Supplementary groups.
    pub(crate) groups: Vec<u32>,
    /// By `/etc/passwd`, if it knows the user.
    pub(crate) name: Option<String>,
    pub(crate) home: Option<String>,
}

/// A user or group that the guest does not have.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the guest has no {what} {name:?}")]
pub(crate) struct UnknownUser {
    what: &'static str,
    name: String,
}

impl UnknownUser {
    pub(crate) const CODE: ErrorCode = ErrorCode::UnknownUser;
}

impl User {
    /// Looks up `name`, `uid`, either with `:group` or `:gid`; without any, who the agent is, which in a guest is root.
    pub(crate) fn look_up(wanted: Option<&str>) -> Result<Self, UnknownUser> {
        let passwd = read("/etc/passwd");
        let group = read("/etc/group");
        let own = geteuid().as_raw().to_string();
        Self::look_up_in(wanted.unwrap_or(&own), &passwd, &group)
    }

    fn look_up_in(wanted: &str, passwd: &str, group: &str) -> Result<Self, UnknownUser> {
        let (user, wanted_group) = match wanted.split_once(':') {
            Some((user, group)) => (user, Some(group)),
            None => (wanted, None),
        };
        let mut found = find_user(user, passwd)?;
        match wanted_group {
            Some(wanted) => found.gid = find_group(wanted, group)?,
            None => {
                if let Some(name) = &found.name {
                    found.groups = memberships(name, group);
                }
            }
        }
        Ok(found)
    }

    /// Whether it is who the agent is anyway. One that is not root has the groups that it has.
    pub(crate) fn is_the_agent(&self) -> bool {
        let own = geteuid();
        let has_roots_groups = self.gid == 0 && self.groups.iter().all(|group| *group == 0);
        self.uid == own.as_raw() && (!own.is_root() || has_roots_groups)
    }
}

fn find_user(wanted: &str, passwd: &str) -> Result<User, UnknownUser> {
    let number = wanted.parse::<u32>().ok().filter(|uid| *uid != u32::MAX);
    for line in passwd.lines() {
        let mut fields = line.split(':');
        let (Some(name), _, Some(uid), Some(gid), _, Some(home)) = (
            fields.next(),
            fields.next(),
            fields.next().and_then(|uid| uid.parse::<u32>().ok()),
            fields.next().and_then(|gid| gid.parse::<u32>().ok()),
            fields.next(),
            fields.next(),
        ) else {
            continue;
        };
        if name == wanted || number == Some(uid) {
            let home = Some(home.to_owned()).filter(|home| home.starts_with('/'));
            return Ok(User { uid, gid, groups: Vec::new(), name: Some(name.to_owned()), home });
        }
    }
    let uid = number.ok_or_else(|| UnknownUser { what: "user", name: wanted.to_owned() })?;
    let home = (uid == 0).then(|| "/root".to_owned());
    Ok(User { uid, gid: 0, groups: Vec::new(), name: None, home })
}

fn find_group(wanted: &str, group: &str) -> Result<u32, UnknownUser> {
    for line in group.lines() {
        let mut fields = line.split(':');
        if let (Some(name), _, Some(gid)) = (fields.next(), fields.next(), fields.next())
            && name == wanted
            && let Ok(gid) = gid.parse()
        {
            return Ok(gid);
        }
    }
    let number = wanted.parse().ok().filter(|gid| *gid != u32::MAX);
    number.ok_or_else(|| UnknownUser { what: "group", name: wanted.to_owned() })
}

fn memberships(user: &str, group: &str) -> Vec<u32> {
    group
        .lines()
        .filter_map(|line| {
            let mut fields = line.split(':');
            let (gid, members) = (fields.nth(2)?, fields.next()?);
            members.split(',').any(|member| member == user).then(|| gid.parse().ok())?
        })
        .take(MAX_GROUPS)
        .collect()
}

fn read(path: &str) -> String {
    let mut bytes = Vec::new();
    // A guest without the file knows no names; numbers work all the same.
    if let Ok(file) = std::fs::File::open(path) {
        file.take(MAX_FILE).read_to_end(&mut bytes).ok();
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str =
        "root:x:0:0:root:/root:/bin/sh\nbroken\nweb:x:33:34::/srv/web:/bin/false\n";
    const GROUP: &str = "root:x:0:\nwww:x:34:\nlogs:x:50:other,web\nbroken:x:no:web\n";

    fn look_up(wanted: &str) -> Result<User, UnknownUser> {
        User::look_up_in(wanted, PASSWD, GROUP)
    }

    #[test]
    fn a_name_brings_its_groups_and_home() {
        let web = look_up("web").expect("known");

        assert_eq!((web.uid, web.gid, &*web.groups), (33, 34, &[50][..]));
        assert_eq!(web.home.as_deref(), Some("/srv/web"));
        assert_eq!(look_up("33").expect("known"), web);
    }

    #[test]
    fn a_number_needs_no_entry() {
        let someone = look_up("1234:5678").expect("numbers");

        assert_eq!((someone.uid, someone.gid, someone.name), (1234, 5678, None));
        assert_eq!(look_up("1234").expect("a number").gid, 0);
    }

    #[test]
    fn an_explicit_group_replaces_the_others() {
        let web = look_up("web:logs").expect("known");

        assert_eq!((web.gid, web.groups), (50, vec![]));
    }

    #[test]
    fn who_is_not_there_is_named() {
        let error = look_up("nobody-here").expect_err("unknown");
        assert_eq!(error.to_string(), "the guest has no user \"nobody-here\"");
        let error = look_up("web:nothing").expect_err("unknown");
        assert_eq!(error.to_string(), "the guest has no group \"nothing\"");
        look_up("4294967295").expect_err("the kernel takes it for none");
        look_up("").expect_err("no user");
        look_up("-1").expect_err("no user");
    }
}
