//! How a test's superd is started: its folder, its configuration, what stands in front of it.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use super::inbox::Inbox;
use super::machine::{built, is_for_everybody, is_root};
use super::superd::Superd;

/// What is to be started. Most tests say `Superd::with(config)` instead.
pub struct Start {
    config: String,
    wrapper: Vec<String>,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    place: Place,
    own_daemon_table: bool,
    names_config: bool,
}

/// Which process is the supervisor.
#[derive(Clone, Copy)]
pub enum Place {
    /// The one that was started.
    Started,
    /// A descendant of it.
    Below,
    /// The one that the pid file names; the one that was started ends.
    Daemon,
}

impl Start {
    /// A configuration; `render` says what it may leave to the harness.
    pub fn new(config: &str) -> Self {
        Self {
            config: config.to_owned(),
            wrapper: Vec::new(),
            arguments: vec!["--foreground".to_owned()],
            environment: Vec::new(),
            place: Place::Started,
            own_daemon_table: false,
            names_config: true,
        }
    }

    /// A program that execs superd: `["prlimit", "--nofile=64"]`.
    pub fn behind(mut self, wrapper: &[&str]) -> Self {
        self.wrapper.extend(wrapper.iter().map(|&word| word.to_owned()));
        self
    }

    /// In place of `--foreground`.
    pub fn arguments(mut self, arguments: &[&str]) -> Self {
        self.arguments = arguments.iter().map(|&word| word.to_owned()).collect();
        self
    }

    /// Adds to superd's environment.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// superd is not the process that is started, but a descendant of it named `superd`.
    pub fn below_wrapper(mut self) -> Self {
        self.place = Place::Below;
        self
    }

    /// superd goes into the background.
    pub fn daemon(mut self) -> Self {
        self.place = Place::Daemon;
        self
    }

    /// The configuration has all of `[daemon]` itself.
    pub fn own_daemon_table(mut self) -> Self {
        self.own_daemon_table = true;
        self
    }

    /// The arguments have `--config` themselves.
    pub fn last_config(mut self) -> Self {
        self.names_config = false;
        self
    }

    /// Starts, and waits until superd says that it is ready.
    #[track_caller]
    pub fn start(self) -> Superd {
        let folder = Folder::new();
        let log = Inbox::open(&folder.path().join("log"));
        let notify = Inbox::open(&folder.path().join("notify"));
        self.write_config(&folder);
        let child = self.spawn(&folder);
        Superd::started(folder, child, log, notify, self.place)
    }

    /// Starts what must not come up: its exit status and standard error.
    #[track_caller]
    pub fn fails(self) -> (Option<i32>, String) {
        let folder = Folder::new();
        let _log = Inbox::open(&folder.path().join("log"));
        self.write_config(&folder);
        let mut child = self.spawn(&folder);
        let status = super::until("superd to give up", || child.try_wait().expect("wait for superd"));
        (status.code(), folder.stderr())
    }

    fn write_config(&self, folder: &Folder) {
        if self.own_daemon_table {
            folder.write_plain(&folder.fill_in(&self.config));
        } else {
            folder.write_config(&self.config);
        }
    }

    fn spawn(&self, folder: &Folder) -> Child {
        let mut words: Vec<OsString> = self.wrapper.iter().map(|word| folder.fill_in(word).into()).collect();
        words.push(built("superd").into());
        words.extend(self.arguments.iter().map(|word| folder.fill_in(word).into()));
        if self.names_config {
            words.extend(["--config".into(), folder.path().join("superd.toml").into()]);
        }
        let (program, arguments) = words.split_first().expect("a program");
        let stderr = fs::File::create(folder.path().join("stderr")).expect("create stderr");
        Command::new(program)
            .args(arguments)
            .env("NOTIFY_SOCKET", folder.path().join("notify"))
            .env_remove("JOURNAL_STREAM")
            .envs(self.environment.iter().map(|(name, value)| (name, folder.fill_in(value))))
            .stdin(Stdio::null())
            .stdout(stderr.try_clone().expect("dup"))
            .stderr(stderr)
            .spawn()
            .unwrap_or_else(|error| panic!("start {}: {error}", program.display()))
    }
}

/// The services of the tests: tests/bin.
const PROGRAMS: [&str; 3] = ["probe", "waiter", "member"];

/// The folder of one superd: configuration, sockets, state, and programs.
pub struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        let dir = TempDir::with_prefix("superd-test-").expect("make a folder");
        // Services of other users find their programs and files here.
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).expect("chmod");
        for name in PROGRAMS {
            let (program, here) = (built(&format!("examples/{name}")), dir.path().join(name));
            if is_for_everybody(&program) {
                symlink(&program, &here).expect("link a program");
            } else {
                // By a process of its own: a descriptor open for writing, inherited by a child that another
                // test just forks, would make the exec of the copy fail with ETXTBSY.
                let copied = Command::new("cp").arg(&program).arg(&here).status().expect("run cp");
                assert!(copied.success(), "copy {name}");
            }
        }
        Self(dir)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// Renders the configuration and puts it in place, whole.
    pub fn write_config(&self, config: &str) {
        self.write_plain(&self.render(config));
    }

    fn write_plain(&self, text: &str) {
        let (new, old) = (self.path().join("superd.toml.new"), self.path().join("superd.toml"));
        fs::write(&new, text).expect("write the configuration");
        fs::rename(new, old).expect("put the configuration in place");
    }

    /// What superd wrote to its standard error and output.
    pub fn stderr(&self) -> String {
        fs::read_to_string(self.path().join("stderr")).unwrap_or_default()
    }

    /// `{dir}` is the folder, `{probe}` and its kind are programs, `{user}` an ordinary user as root and nothing else.
    pub fn fill_in(&self, text: &str) -> String {
        let user = if is_root() { "user = \"nobody\"\ngroup = \"nogroup\"" } else { "" };
        let dir = self.path().display().to_string();
        let place = |text: String, name: &str| text.replace(&format!("{{{name}}}"), &format!("{dir}/{name}"));
        PROGRAMS.into_iter().fold(text.replace("{user}", user), place).replace("{dir}", &dir)
    }

    /// Fills in, and adds where the control socket, the log and the state of this superd are, unless the
    /// test says it. What is added comes last, so that the lines keep their numbers.
    fn render(&self, config: &str) -> String {
        let mut daemon =
            "control = \"{dir}/control.sock\"\nstate_dir = \"{dir}\"\npid_file = \"{dir}/superd.pid\"\n"
                .to_owned();
        if !config.contains("helper_user") && is_root() {
            // A user that is on every machine.
            daemon.push_str("helper_user = \"nobody\"\n");
        }
        let log = "target = \"syslog\"\nsocket = \"{dir}/log\"\nfallback = \"none\"\n";
        let config = with_table(config, "daemon", &daemon);
        let config = if config.contains("\ntarget =") { config } else { with_table(&config, "log", log) };
        self.fill_in(&config)
    }
}

fn with_table(config: &str, table: &str, keys: &str) -> String {
    let header = format!("[{table}]\n");
    if config.contains(&header) {
        config.replacen(&header, &format!("{header}{keys}"), 1)
    } else {
        format!("{config}\n{header}{keys}")
    }
}
