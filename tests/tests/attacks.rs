//! The published table of attacks: what is tried, what comes of it, and the test that proves it. `docs/attacks.md` is made
//! from the tables of the rogue guest's README, which are played row by row, and from the rows below, which name a test
//! each. A row is added here, or there if a guest can play it.
//!
//! `DOWNBEAT_BLESS=1 cargo test --workspace --test attacks` writes the page anew; the difference is the review.

#![allow(clippy::unwrap_used, reason = "a test that unwraps says where it failed")]

use std::fmt::Write as _;

use downbeat_tests::page::attacks;
use downbeat_tests::repository;

const PAGE: &str = "docs/attacks.md";
const README: &str = "tests/guests/rogue/README.md";

/// What is tried, what comes of it, the file below the repository, the test in it.
type Row = (&'static str, &'static str, &'static str, &'static str);

/// The rows that no table of the guest's README has, by what is attacked.
const ROWS: &[(&str, &[Row])] = &[
    (
        "Other steps and other attempts",
        &[
            (
                "reads what the last instance left in memory",
                "there is nothing: every attempt has an instance of its own",
                "engine/sandbox/tests/sandbox/wasi.rs",
                "without_grants_every_attempt_sees_the_same_clocks_and_numbers",
            ),
            (
                "puts a link in the place of a directory that another step is granted",
                "refused: no grant follows a link",
                "tests/tests/rogue.rs",
                "a_link_that_a_guest_planted_moves_no_grant",
            ),
            (
                "is granted the state directory, where the journal is, or the compiled code",
                "refused when it is checked",
                "tests/tests/rogue.rs",
                "the_state_and_the_cache_are_never_granted",
            ),
            (
                "puts a pipe among granted files, so that whoever opens it waits for ever",
                "not opened",
                "tests/tests/rogue.rs",
                "a_pipe_among_granted_files_is_not_opened",
            ),
            (
                "alters a blob that another step stored",
                "not handed out",
                "engine/sandbox/src/host/artifacts.rs",
                "a_damaged_blob_is_not_handed_out",
            ),
            (
                "an archive whose members climb out, lead out by links, are devices, or swell beyond their bound",
                "refused, and nothing of it is unpacked elsewhere",
                "tests/tests/steps.rs",
                "a_hostile_archive_is_refused_and_a_good_one_keeps_its_links",
            ),
        ],
    ),
    (
        "Native programs, beside the table of the guest",
        &[
            (
                "leaves its process group or its session, and lets its parent end",
                "killed with the program, and told in the log",
                "engine/sandbox/tests/sandbox/processes.rs",
                "what_left_the_group_is_killed_with_the_program",
            ),
            (
                "makes processes faster than they are killed",
                "all of them are killed",
                "engine/sandbox/tests/sandbox/processes.rs",
                "a_chain_of_processes_that_run_away_is_killed",
            ),
            (
                "looks for what the engine has open",
                "there is nothing",
                "engine/sandbox/tests/sandbox/processes.rs",
                "a_program_inherits_nothing_that_somebody_left_open",
            ),
            (
                "outlives an engine that is killed",
                "killed with it",
                "engine/sandbox/tests/sandbox/processes.rs",
                "the_death_of_the_engine_kills_the_program",
            ),
            (
                "reads, writes or runs by any path what is not granted",
                "refused by the kernel",
                "engine/sandbox/src/native.rs",
                "nothing_else_is_opened_by_whatever_path",
            ),
            (
                "sends a datagram to the path of a socket, without a connection",
                "there are no sockets for datagrams: `Permission denied`",
                "engine/sandbox/src/native.rs",
                "without_the_grant_there_is_no_network_of_any_kind",
            ),
            (
                "leaves a segment of shared memory, or messages, to the next step; makes children that are the engine's",
                "refused",
                "engine/sandbox/src/native/filter.rs",
                "each_rule_means_what_it_says",
            ),
            (
                "connects to a container engine by the path of its socket",
                "refused by the kernel",
                "engine/sandbox/src/native.rs",
                "without_the_grant_there_is_no_network_of_any_kind",
            ),
            (
                "asks the kernel for what no step needs: tracing, namespaces, mounts, keys, modules, clocks",
                "refused by the kernel",
                "engine/sandbox/src/native.rs",
                "system_calls_that_no_step_needs_are_refused",
            ),
            (
                "nests directories in its own deeper than a stack or open files reach, or takes away its owner's rights to them",
                "removed",
                "engine/sandbox/src/remove.rs",
                "what_is_deeper_than_a_stack_reaches_is_removed_on_a_small_one",
            ),
            (
                "reads, writes or removes the shared memory, semaphores and messages of others, by their number",
                "refused by the kernel",
                "engine/sandbox/src/native/filter.rs",
                "each_rule_means_what_it_says",
            ),
            (
                "takes back that it dies with the engine",
                "it is told that it did, and dies",
                "engine/sandbox/src/native/filter.rs",
                "each_rule_means_what_it_says",
            ),
            (
                "slows the engine down: its priority, its processors, its turns at the disk",
                "refused by the kernel: a program names itself, and no other",
                "engine/sandbox/src/native.rs",
                "system_calls_that_no_step_needs_are_refused",
            ),
            (
                "a value from elsewhere in the place of an argument becomes an option",
                "refused, where the grant says how the program may be called",
                "engine/workflow/src/permission.rs",
                "a_value_from_elsewhere_does_not_become_an_option",
            ),
            (
                "is the superuser",
                "its rights are those of a user who owns files",
                "engine/sandbox/src/native.rs",
                "the_superusers_rights_are_few_and_do_not_come_back",
            ),
            (
                "runs on a kernel that lacks a protection",
                "on record; refused where the protection is required",
                "engine/sandbox/src/host/process.rs",
                "a_protection_that_is_required_and_missing_keeps_the_program_from_starting",
            ),
        ],
    ),
    (
        "Secrets, beside the table of the guest",
        &[
            (
                "is sent over a connection that others can read",
                "a placeholder is sent, but to this machine itself or where `insecure` is granted; on record",
                "engine/sandbox/src/host/secrets.rs",
                "elsewhere_and_in_the_open_it_stays_a_placeholder",
            ),
            (
                "stands where a body is cut into pieces, in a header, a path or a query, and has quotes and line ends in it",
                "written in the encoding of its place, and nowhere else",
                "engine/sandbox/src/host/secrets.rs",
                "a_body_has_the_value_in_its_own_encoding_wherever_it_is_cut",
            ),
            (
                "a component that is revealed a value says it by each of its ways",
                "blotted out",
                "tests/tests/secrets.rs",
                "what_a_component_is_revealed_is_blotted_out_of_all_that_it_says",
            ),
            (
                "a program writes its variable to the workspace",
                "it lies there, and nowhere else: files of a step are not looked through",
                "tests/tests/secrets.rs",
                "what_a_program_writes_to_the_workspace_is_not_looked_through_and_lies_nowhere_else",
            ),
            (
                "a program of another step looks for it in the memory, the variables and the files of the program that has it",
                "refused by the kernel",
                "tests/tests/secrets.rs",
                "a_program_of_another_step_does_not_find_it_in_the_memory_or_the_variables_of_others",
            ),
            (
                "an answer in which it can't be looked for: compressed, or coded on the way",
                "not asked for, and not handed on to a component from which secrets are kept",
                "engine/sandbox/src/host/secrets.rs",
                "an_answer_that_cannot_be_looked_through_is_not_handed_on",
            ),
            (
                "stands in the trailers of a request of which the body is granted",
                "a placeholder is sent",
                "engine/sandbox/src/host/secrets.rs",
                "a_trailer_of_a_request_is_no_body",
            ),
            (
                "a log that has no room left where it begins",
                "no beginning of it is kept",
                "engine/sandbox/src/host/log.rs",
                "no_beginning_of_a_secret_is_kept_where_there_is_no_room_for_more",
            ),
            (
                "is looked for in the journal, the log, blobs, an exported run, and all that commands print of it",
                "it is in none",
                "tests/tests/secrets.rs",
                "what_is_kept_printed_exported_and_imported_of_a_run_has_no_value",
            ),
            (
                "base64 in lines of any length, with any line ends and indentation, cut anywhere",
                "blotted out",
                "engine/sandbox/src/redact.rs",
                "base64_is_found_in_lines_of_any_length",
            ),
            (
                "a program begins to print it and goes on with white space without end",
                "not held back beyond a bound",
                "engine/sandbox/src/replace.rs",
                "white_space_without_end_is_not_held_back",
            ),
            (
                "a program writes a long secret byte by byte, so that the engine looks at all that it holds back for each of them",
                "what is held back is looked at again for every eighth that comes to it",
                "engine/sandbox/src/replace.rs",
                "a_long_text_in_small_pieces_is_not_looked_at_again_for_each",
            ),
            (
                "any text in any pieces, with parts of secrets and white space in it",
                "none is told",
                "engine/sandbox/src/replace.rs",
                "of_any_text_in_any_pieces_no_more_is_told_than_of_the_whole",
            ),
            (
                "the command that a secret is read from fails and prints it",
                "its status is told, and nothing of what it wrote",
                "engine/sandbox/src/secrets.rs",
                "a_command_that_fails_tells_its_status_and_not_what_it_wrote",
            ),
        ],
    ),
    (
        "Requests",
        &[
            (
                "an address in another spelling than a policy forbids: `2130706433`, `0x7f.1`, `127.1`",
                "refused: four decimal numbers, or a name",
                "engine/workflow/src/resolve/grant.rs",
                "destinations_are_hosts_with_or_without_a_port",
            ),
            (
                "a granted name that leads to an address of this machine, of the local network or of the cloud's metadata",
                "not connected, and on record",
                "engine/sandbox/src/host/http.rs",
                "a_name_that_leads_to_a_private_address_is_not_connected",
            ),
            (
                "a name that leads to a public address when it is judged and to a private one when it is connected (DNS rebinding)",
                "connected to the address that was judged; the name is asked for once",
                "engine/sandbox/src/host/http.rs",
                "the_address_that_was_judged_is_the_one_that_is_connected",
            ),
            (
                "private addresses in other clothes: mapped to IPv6, NAT64, 6to4, shared by a provider",
                "not connected",
                "engine/workflow/src/permission.rs",
                "what_is_not_of_the_internet_at_large_is_not_public",
            ),
            (
                "a redirect to what is not granted",
                "an answer like others: following it asks for its own grant",
                "engine/sandbox/src/host/http.rs",
                "a_granted_request_is_sent_and_its_answer_streamed",
            ),
            (
                "credentials in an address",
                "refused",
                "engine/sandbox/src/host/http.rs",
                "credentials_in_an_address_are_refused",
            ),
            (
                "a server that never answers, answers without end, or with a header without end",
                "given up",
                "engine/sandbox/src/host/http.rs",
                "an_answer_that_is_no_http_or_has_an_endless_header_is_told_apart",
            ),
        ],
    ),
    (
        "Workflows and rules",
        &[
            (
                "a file that is too large",
                "refused with its size",
                "tests/tests/errors.rs",
                "a_file_that_is_too_large_is_refused_with_its_size",
            ),
            (
                "a rule that computes without end",
                "ends with its budget",
                "engine/workflow/tests/rules.rs",
                "evaluation_ends_when_its_budget_does",
            ),
            (
                "holes that make gigabytes of a small value",
                "refused at the bound",
                "engine/workflow/tests/rules.rs",
                "holes_do_not_multiply_a_large_value_into_gigabytes",
            ),
            (
                "holes that nest a value too deeply",
                "refused at the bound",
                "engine/workflow/tests/rules.rs",
                "holes_do_not_nest_a_value_deeper_than_it_may_be",
            ),
            (
                "a workflow that opens itself",
                "fails at the bound",
                "engine/workflow/tests/scopes.rs",
                "a_workflow_may_open_itself_and_goes_no_deeper_than_the_bound",
            ),
            (
                "any text in the place of a workflow",
                "told with its place",
                "tests/tests/fuzz.rs",
                "no_text_breaks_what_reads_workflows",
            ),
            (
                "any text in the place of a policy",
                "told; nothing runs under what can't be read",
                "tests/tests/fuzz.rs",
                "no_text_breaks_what_reads_policies",
            ),
            (
                "any text in the place of a lock",
                "told with its place",
                "tests/tests/fuzz.rs",
                "no_text_breaks_what_reads_locks",
            ),
            (
                "any text in the place of a rule",
                "told, and never without end",
                "tests/tests/fuzz.rs",
                "no_text_breaks_what_evaluates_rules",
            ),
        ],
    ),
    (
        "What is kept: components, answers, the journal, exported runs",
        &[
            (
                "another component in the place of the one that was checked",
                "the run keeps to the one that it began with",
                "tests/tests/crashes.rs",
                "a_component_that_changed_meanwhile_does_not_change_a_run",
            ),
            (
                "a new version of a component that wants one more host",
                "refused until the lock has it",
                "tests/tests/keys.rs",
                "a_new_version_that_wants_one_more_host_is_refused_until_the_lock_has_it",
            ),
            (
                "a component that the lock does not have, a lock that can't be read",
                "refused",
                "tests/tests/keys.rs",
                "a_plugin_that_the_lock_has_not_is_refused_and_a_lock_that_cannot_be_read_refuses_all",
            ),
            (
                "a component that nobody signed whom the policy names, or somebody else",
                "not even loaded",
                "tests/tests/keys.rs",
                "a_component_that_is_not_signed_by_those_whom_the_policy_names_is_not_even_loaded",
            ),
            (
                "a policy that can't be read, is wrong, or lies beside the workflow",
                "everything is refused",
                "tests/tests/keys.rs",
                "a_policy_that_cannot_be_read_or_is_wrong_or_lies_beside_the_workflow_refuses_everything",
            ),
            (
                "a source whose compilation runs what its author wants, before anybody has asked policy and lock",
                "refused, and nothing of it is compiled",
                "tests/tests/keys.rs",
                "nothing_of_a_source_is_compiled_before_policy_and_lock_have_been_asked",
            ),
            (
                "a program by a path that leads through a trusted folder and out of it again",
                "refused when it is checked",
                "engine/workflow/tests/diagnostics.rs",
                "every_fault_is_told_with_its_line_and_a_hint",
            ),
            (
                "an archive of a run that is not over, with places, folders and approvals that somebody made up",
                "where a policy holds it is not taken in",
                "tests/tests/archives.rs",
                "a_run_that_is_not_over_is_taken_only_by_those_who_say_so",
            ),
            (
                "a rule that takes away instead of refusing, about sources, signers or approvals, of which nothing can be taken away",
                "refused",
                "tests/tests/keys.rs",
                "what_cannot_be_taken_away_is_refused_where_it_would_be",
            ),
            (
                "a statement by the right key that is no signature: a revocation, a test's result",
                "it counts as none",
                "engine/cli/src/signature.rs",
                "what_a_key_says_beside_that_these_are_the_bytes_is_no_signature",
            ),
            (
                "thousands of signatures beside a component, by as many keys, or a megabyte of them",
                "the latest few are looked at",
                "engine/cli/src/signature.rs",
                "of_many_bundles_the_latest_are_looked_at_and_of_many_keys_a_few",
            ),
            (
                "a pipe, or a device that never ends, in the place of a policy or of a component's signatures",
                "the policy can't be read, and everything is refused; the component counts as not signed",
                "tests/tests/keys.rs",
                "a_pipe_in_the_place_of_a_policy_or_of_signatures_is_waited_for_by_nobody",
            ),
            (
                "a step that may write where a link on the way to the policy is",
                "refused, as one that may write to the policy itself",
                "tests/tests/keys.rs",
                "a_step_that_could_put_another_link_in_the_way_to_the_policy_is_refused",
            ),
            (
                "what a rule forbids in other words: a program by its path, a file as that of a secret, a host with a dot at its end, an address of this machine by its name",
                "forbidden as well",
                "engine/workflow/tests/policies.rs",
                "a_policy_says_of_each_step_what_it_is_not_content_with",
            ),
            (
                "a component whose path leads through a trusted folder and out of it again, or by a link in it",
                "it counts as being where it is: refused",
                "tests/tests/keys.rs",
                "a_component_counts_as_being_where_it_is_and_not_where_its_path_leads_through",
            ),
            (
                "a run that was begun before the policy forbade what it does",
                "held against the policy of today when it is taken up again",
                "tests/tests/keys.rs",
                "a_run_that_is_taken_up_again_is_held_against_todays_policy",
            ),
            (
                "a byte of the journal that was changed, whichever it is",
                "found by `audit verify`",
                "engine/journal/tests/journal/audit.rs",
                "any_byte_of_any_value_that_is_changed_is_found",
            ),
            (
                "a record of the journal that was removed",
                "missed by `audit verify`",
                "engine/journal/tests/journal/audit.rs",
                "each_record_that_is_removed_is_missed",
            ),
            (
                "a run that was removed from the journal",
                "missed by `audit verify`",
                "engine/journal/tests/journal/audit.rs",
                "a_run_that_is_removed_without_a_note_is_missed_and_so_is_the_note_of_one",
            ),
            (
                "an index of the journal that hides a record, a trigger, a view",
                "found by `audit verify`",
                "engine/journal/tests/journal/audit.rs",
                "a_record_that_an_index_hides_is_found_and_so_is_all_that_a_new_journal_has_not",
            ),
            (
                "an approval that was given on other inputs, or for another plan, in a run that is done again",
                "asked anew",
                "engine/workflow/tests/rerun.rs",
                "an_approval_holds_for_no_other_inputs_and_no_other_plan",
            ),
            (
                "an overlay from elsewhere over a workflow that a policy excepts by its folder",
                "refused: under a policy overlays lie in the workflow's folder",
                "tests/tests/keys.rs",
                "what_lies_elsewhere_is_not_laid_over_a_workflow_that_a_policy_trusts",
            ),
            (
                "a link to a workflow in the place of one that a policy trusts, or to one that it does not; a policy in the folder of a workflow that another one opens",
                "a policy knows a workflow by where it really is; a policy in such a folder is refused",
                "tests/tests/keys.rs",
                "a_policy_is_apart_from_every_workflow_that_a_run_opens_and_a_link_changes_no_rule",
            ),
            (
                "a finished run from an archive, done again by the plan, with the places and by the approvals that the archive tells of",
                "where a policy holds, refused, and so is a run that does it again where none held; by a file of this machine it is judged as a new run, and nothing is taken over",
                "tests/tests/keys.rs",
                "a_run_that_comes_from_elsewhere_is_judged_as_a_new_one_or_not_done_again",
            ),
            (
                "a program that a policy forbids by another path, a link of any name or a second name of its file, also one that is put there between check and start",
                "refused when it is checked, and when it is to be started",
                "tests/tests/keys.rs",
                "a_program_that_is_forbidden_is_not_started_by_any_link_to_it",
            ),
            (
                "a file that a policy forbids, read by a program or as a secret through a link, also one that leads there only between check and start, or as the home folder",
                "refused when it is checked; what is opened then is what was judged, through no link",
                "tests/tests/keys.rs",
                "what_a_program_reads_and_the_file_of_a_secret_are_judged_by_where_they_lead",
            ),
            (
                "a program by its digest, and another file in its place between the look and the start",
                "the file that was looked at is started",
                "engine/sandbox/src/host/process/held.rs",
                "what_was_looked_at_is_what_is_started",
            ),
            (
                "a program by its digest, which is written to between the look and the start",
                "killed, and told",
                "engine/sandbox/src/host/process/held.rs",
                "what_is_written_to_a_program_meanwhile_is_seen",
            ),
            (
                "gigabytes of nothing in the place of a component that has to be signed",
                "refused by its size, and not read",
                "tests/tests/keys.rs",
                "what_is_too_large_to_be_a_component_is_not_read_to_see_who_has_signed_it",
            ),
            (
                "another file in the place of one that a step with a kept answer reads, and that one back before the answer is kept",
                "the answer is not kept",
                "engine/sandbox/src/surroundings.rs",
                "a_file_that_was_another_one_in_between_has_left_a_trace",
            ),
            (
                "a secret's command, an approval or an argument that was changed between two workflows",
                "told by `downbeat diff`",
                "tests/tests/keys.rs",
                "what_else_differs_between_two_workflows_is_not_called_the_same",
            ),
            (
                "compiled code that was altered in the cache",
                "not there; compiled again",
                "engine/sandbox/src/cache.rs",
                "an_altered_entry_is_not_there",
            ),
            (
                "an altered answer among those that are kept",
                "not taken",
                "tests/tests/caching.rs",
                "a_tampered_answer_is_not_taken",
            ),
            (
                "a plan that was edited in the journal",
                "not read",
                "engine/journal/tests/journal/opening.rs",
                "a_plan_that_was_changed_from_outside_is_not_read",
            ),
            (
                "a damaged journal",
                "told, and left as it is",
                "tests/tests/storage.rs",
                "a_damaged_database_is_told_and_left_as_it_is",
            ),
            (
                "any bytes in the place of the journal",
                "told",
                "tests/tests/fuzz.rs",
                "no_bytes_break_what_reads_journals",
            ),
            (
                "an exported run whose records can't follow each other",
                "refused, and nothing is kept",
                "engine/archive/tests/archive.rs",
                "records_that_cannot_follow_each_other_and_plans_that_lead_nowhere_are_refused",
            ),
            (
                "an exported run whose members have paths or links for names",
                "refused",
                "engine/archive/tests/archive.rs",
                "names_that_are_paths_and_members_that_are_links_are_none",
            ),
            (
                "any bytes in the place of a component or of an exported run",
                "refused",
                "tests/tests/fuzz.rs",
                "no_bytes_break_what_loads_components",
            ),
            (
                "a clock that is set back, so that nothing comes due",
                "time goes on from where it was",
                "engine/conductor/tests/conductor/clocks.rs",
                "a_clock_that_was_set_back_does_not_stall_a_retry",
            ),
        ],
    ),
];

/// The tables of the guest's README: heading there, heading here, the test that plays it, and its file.
const PLAYED: &[(&str, &str, &str, &str)] = &[
    (
        "Misbehaviour",
        "A step that misbehaves",
        "misbehaviour_is_stopped_told_apart_and_recorded_while_good_steps_complete",
        "rogue.rs",
    ),
    (
        "Reaching for what was not granted",
        "A step that reaches for what was not granted",
        "what_was_not_granted_is_not_there_and_the_refusal_says_how_to_grant_it",
        "rogue.rs",
    ),
    ("Native programs", "A native program that misbehaves", "programs_are_kept_to_their_grants_and_limits", "rogue.rs"),
    ("Secrets", "A step that is after a secret", "a_value_goes_where_it_is_granted_and_nowhere_else", "secrets.rs"),
];

/// What a row of a played table comes to, in words.
fn outcome(heading: &str, row: &[String]) -> String {
    match heading {
        "Misbehaviour" => match row[3].as_str() {
            "succeeded" => format!("harmless; the step goes on ({})", row[4]),
            kind => format!("{kind}: {}", row[4]),
        },
        "Native programs" => match row[3].as_str() {
            "succeeded" => row[4].clone(),
            kind => format!("{kind}: {}", row[4]),
        },
        "Secrets" => row[5].clone(),
        _ if row[3].is_empty() => format!("not there ({})", row[2]),
        _ => format!("refused, on record with {}", row[3]),
    }
}

#[test]
fn the_page_of_attacks_is_what_the_tests_prove() {
    let mut page = String::from(
        "# Attacks, and what comes of them\n\n\
         Made by the tests, from tables that they play: `DOWNBEAT_BLESS=1 cargo test --workspace --test attacks` writes it. Each row is \
         tried with a real guest, a real program or real bytes; nothing escapes, nothing holds the engine up, a well-behaved step \
         beside it finishes, and the attempt's record says what happened. [security.md](security.md) says what all of it \
         stands on.\n",
    );
    let mut count = 0;
    for (heading, here, test, file) in PLAYED {
        let _ = write!(
            page,
            "\n## {here}\n\nPlayed by `{test}` in [{file}](../tests/tests/{file}); the inputs are in the \
             [guest's README](../{README}).\n\n| attack | outcome |\n|---|---|\n"
        );
        for row in attacks(heading) {
            let _ = writeln!(page, "| {} | {} |", row[0], outcome(heading, &row));
            count += 1;
        }
    }
    page.push_str("\n## A component that no compiler emits\n\n| attack | outcome | test |\n|---|---|---|\n");
    for row in attacks("Hostile components") {
        let _ = writeln!(page, "| {} | {} | {} |", row[0], row[1], row[2]);
        count += 1;
    }
    for (heading, rows) in ROWS {
        let _ = write!(page, "\n## {heading}\n\n| attack | outcome | test |\n|---|---|---|\n");
        for (attack, outcome, file, test) in *rows {
            let name = file.rsplit('/').next().unwrap();
            let _ = writeln!(page, "| {attack} | {outcome} | [{name}](../{file}) `{test}` |");
            count += 1;
        }
    }
    let _ = write!(page, "\n{count} attacks.\n");
    let path = repository().join(PAGE);
    if std::env::var_os("DOWNBEAT_BLESS").is_some() {
        std::fs::write(&path, page).unwrap();
    } else {
        let written = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(written == page, "{PAGE} is behind the tests (DOWNBEAT_BLESS=1 brings it up to date)");
    }
}

#[test]
fn every_row_names_a_test_that_is_run() {
    let mut wrong = Vec::new();
    let played = PLAYED.iter().map(|(heading, _, test, file)| (*heading, format!("tests/tests/{file}"), *test));
    let named =
        ROWS.iter().flat_map(|(_, rows)| *rows).map(|(attack, _, file, test)| (*attack, (*file).to_owned(), *test));
    for (attack, file, test) in played.chain(named) {
        let source = std::fs::read_to_string(repository().join(&file)).unwrap_or_default();
        let before = source.split_once(&format!("fn {test}()")).map(|(before, _)| before.to_owned());
        let attributes = before.as_deref().and_then(|before| before.rsplit("\n\n").next()).unwrap_or_default();
        let is_test = ["#[test]", "#[tokio::test"].iter().any(|test| attributes.contains(test));
        if !is_test || attributes.contains("#[ignore") {
            wrong.push(format!("{attack}: {file} has no test `{test}` that is run"));
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
}
