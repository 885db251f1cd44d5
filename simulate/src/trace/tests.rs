//! What is read, and what a person is told about the rest.

use std::io::Cursor;
use std::path::Path;

use super::*;

fn read_text(text: &str) -> Result<Trace, ReadError> {
    let swf = text.trim_start().starts_with(';');
    read_lines(Lines::of(Path::new("work.csv"), Box::new(Cursor::new(text.to_owned().into_bytes()))), swf)
}

fn error(text: &str) -> String {
    read_text(text).expect_err("is refused").to_string()
}

#[test]
fn columns_in_any_order_and_more_than_are_needed() {
    let text = "gpus,ID,dur,submit,limit,queue,user,color,gpu_type,cpus,memory_mb,preemptible,priority,expected\n\
                2,a,10.5,3,60,q,\"Doe, J.\",red,A100|H100,1.5,2048,true,200,30\n\n1,b,1,4,,,,,,,,,,\n";
    let trace = read_text(text).unwrap();
    let job = &trace.jobs[0];
    assert_eq!((job.submit, job.run, job.limit, job.expected), (3_000, 10_500, Some(60_000), Some(30_000)));
    assert_eq!((job.gpus, job.cpu_milli, job.memory_mb, job.priority), (2, 1_500, 2_048, 200));
    assert_eq!(trace.queues.text(job.queue), "q");
    assert_eq!(trace.users.text(job.user), "Doe, J.");
    assert_eq!(trace.types.text(job.gpu_type), "A100|H100");
    assert!(job.preemptible);
    let job = &trace.jobs[1];
    assert_eq!((job.limit, job.priority, job.line), (None, 100, 4));
    assert_eq!(trace.queues.text(job.queue), "");
    assert_eq!(trace.notes, ["columns that are not looked at: color"]);
}

#[test]
fn jobs_stand_in_one_order_whatever_the_files() {
    let forward = read_text("id,submit,dur,limit,gpus\n9,5,1,2,1\n10,5,1,2,1\n8,6,1,2,1\n").unwrap();
    let backward = read_text("id,submit,dur,limit,gpus\n8,6,1,2,1\n10,5,1,2,1\n9,5,1,2,1\n").unwrap();
    let ids = |trace: &Trace| trace.jobs.iter().map(|job| job.id.to_string()).collect::<Vec<_>>();
    assert_eq!(ids(&forward), ["9", "10", "8"]);
    assert_eq!(ids(&backward), ids(&forward));
    assert!(forward.notes.is_empty());
    assert!(backward.notes[0].contains("sorted"), "{:?}", backward.notes);
}

#[test]
fn what_cannot_be_a_job_is_told_with_its_place_and_what_to_do() {
    let head = "id,submit,dur,limit,gpus\n";
    for (text, said) in [
        (
            "id,submit,limit,gpus\n1,1,1,1\n".to_owned(),
            "line 1, column dur: is missing; the first line names",
        ),
        (format!("{head}1,-5,1,1,1\n"), "line 2, column submit: -5 is negative; times are seconds"),
        (format!("{head}\n\n1,0,x,1,1\n"), "line 4, column dur: \"x\" is not a number; write seconds"),
        (format!("{head}1,0,1,1,1.5\n"), "column gpus: \"1.5\" is not a whole number"),
        (format!("{head}1,0,NaN,1,1\n"), "column dur: \"NaN\" is not a number"),
        (format!("{head}1,0,,1,1\n"), "column dur: is empty"),
        (format!("{head}1,0,1e300,1,1\n"), "column dur: 1e300 is too large"),
        (format!("{head}1,0,1,1\n"), "line 2: has 4 fields, and the first line 5"),
        (
            format!("{head}1,0,1,1,1\n2,0,1,1,1\n1,7,1,1,1\n"),
            "line 4, column id: \"1\" is the id of line 2 too",
        ),
        (format!("{head}\"1,0,1,1,1\n"), "a quote without an end"),
        (String::new(), "is empty; a trace has"),
        (head.to_owned(), "has no jobs"),
        ("id,id,submit,dur,gpus\n".to_owned(), "column id: is there twice"),
        ("; SWF\n1 0 5 10\n".to_owned(), "line 2: has 4 fields"),
        ("; SWF\n1 x 5 10 1 -1 -1 1 60 -1 1 3 1 -1 2 -1 -1 -1\n".to_owned(), "column 2 (submit time): \"x\""),
    ] {
        let error = error(&text);
        assert!(error.contains(said), "{text:?}: {error}");
        assert!(error.starts_with("work.csv"), "{error}");
    }
}

#[test]
fn bytes_that_are_no_text_and_lines_without_an_end() {
    let lines = |bytes: Vec<u8>| Lines::of(Path::new("f"), Box::new(Cursor::new(bytes)));
    let error = read_lines(lines(b"id,submit,dur,gpus\n\xff,1,1,1\n".to_vec()), false).unwrap_err();
    assert!(error.to_string().contains("line 2: is not UTF-8"), "{error}");
    let error = read_lines(lines(vec![b'1'; 1 << 20]), false).unwrap_err();
    assert!(error.to_string().contains("is longer than"), "{error}");
    let windows =
        read_lines(lines(b"\xef\xbb\xbfid,submit,dur,gpus\r\n1,2,3,4\r\n".to_vec()), false).unwrap();
    assert_eq!(windows.jobs[0].gpus, 4);
}

#[test]
fn the_standard_workload_format() {
    let text = "; Version: 2.2\n;  Computer: a test\n\
                1 0 5 10 4 -1 -1 8 3600 -1 1 3 1 -1 2 -1 -1 -1\n\
                2 1 5 10 4 -1 -1 -1 -1 -1 0 3 1 -1 2 -1 -1 -1\n\
                3 2 5 -1 4 -1 -1 8 3600 -1 5 3 1 -1 2 -1 -1 -1\n\
                4 3 5 10 4 -1 -1 8 3600 -1 2 3 1 -1 2 -1 -1 -1\n\
                5 4 5 10 0 -1 -1 -1 3600 -1 1 3 1 -1 2 -1 -1 -1\n";
    let trace = read_text(text).unwrap();
    assert_eq!(trace.jobs.len(), 2);
    let job = &trace.jobs[0];
    assert_eq!((job.gpus, job.run, job.limit, job.line), (8, 10_000, Some(3_600_000), 3));
    assert_eq!((trace.queues.text(job.queue), trace.users.text(job.user)), ("2", "3"));
    assert_eq!((trace.jobs[1].gpus, trace.jobs[1].limit), (4, None), "used where none was requested");
    assert_eq!(trace.notes.len(), 3, "{:?}", trace.notes);
}

#[test]
fn a_compressed_file_and_its_copy_in_plain_text_are_the_same() {
    use std::io::Write;
    let folder = std::env::temp_dir().join(format!("berth-trace-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let text = "id,submit,dur,limit,gpus\n1,0,10,20,1\n";
    let file = folder.join("trace.csv.gz");
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(text.as_bytes()).unwrap();
    std::fs::write(&file, packed.finish().unwrap()).unwrap();
    let read = read(&file).unwrap();
    std::fs::remove_dir_all(&folder).unwrap();
    assert_eq!(read.jobs, read_text(text).unwrap().jobs);
}

#[test]
fn whatever_is_in_the_file_it_is_read_or_refused() {
    let csv = "id,submit,dur,limit,gpus,queue,user\n1,0,10,20,1,q,u\n2,5,10,,8,\"q\",u\n";
    let swf = "; SWF\n1 0 5 10 4 -1 -1 8 3600 -1 1 3 1 -1 2 -1 -1 -1\n";
    let letters = b"0123456789-+.,;\"\n\r \te\xc3\xff\0N|";
    let mut chance = crate::chance::Chance::new(11);
    for round in 0..4_000 {
        let mut bytes = if round % 2 == 0 { csv } else { swf }.as_bytes().to_vec();
        for _ in 0..=chance.below(6) {
            let place = chance.below(bytes.len());
            match chance.below(3) {
                0 => bytes[place] = letters[chance.below(letters.len())],
                1 => bytes.insert(place, letters[chance.below(letters.len())]),
                _ => drop(bytes.remove(place)),
            }
        }
        let lines = Lines::of(Path::new("f"), Box::new(Cursor::new(bytes)));
        if let Ok(trace) = read_lines(lines, round % 3 == 0) {
            assert!(trace.jobs.iter().all(|job| job.submit >= 0 && job.run >= 0));
            let cluster = crate::cluster::of_hosts(2, 8).unwrap();
            let run = crate::run::run(&trace, &cluster, crate::run::Options::default(), &mut |_| ());
            assert_eq!(run.violations, 0, "{:?}", run.found);
        }
    }
}
