/*
 * command_help.c - the pages of `flotilla --help` and of the commands that start a job.
 */
#include "launch/commands.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

static const char main_page[] =
    "flotilla COMMAND [options]     runs Qwen3-Omni on the CPUs of one or many machines, over MPI\n"
    "\n"
    "  generate     one prompt in, one answer out; --speech says it aloud\n"
    "  speak        says a given text\n"
    "  chat         a conversation in the terminal\n"
    "  tokenize     text to token ids; detokenize: ids to text\n"
    "  template     renders a chat template\n"
    "  plan         which worker would hold what, and whether the model fits; starts nothing\n"
    "  inspect      what a checkpoint folder holds and lacks\n"
    "  verify       computes reference cases and compares\n"
    "  bench        rates of encoders and speech beside what the machine can do\n"
    "\n"
    "  not built yet: batch, serve, pack, doctor\n"
    "\n"
    "flotilla COMMAND --help shows a command's options; flotilla --version the version.\n"
    "\n"
    "Examples:\n"
    "  flotilla generate --prompt \"What is the capital of France?\" --workers 3\n"
    "  flotilla chat --model Qwen/Qwen3-Omni-30B-A3B-Instruct --hosts a:2,b:2\n"
    "  flotilla speak --text \"Good morning.\" --speech morning.wav\n"
    "  flotilla plan --model Qwen/Qwen3-Omni-30B-A3B-Instruct --cluster cluster.json\n"
    "\n"
    "Standard output carries results only; progress, log and errors go to standard error.\n"
    "Exit status: 0 done; 1 the work failed (damaged file, lost worker, no mpirun); 2 wrong use;\n"
    "3 a check found a difference or no fit; 130 interrupted (Ctrl-C).\n";

static const char run_options_page[] =
    "\n"
    "Model and machines:\n"
    "  --model DIR|NAME       checkpoint folder, or a name in the local hub cache\n"
    "                         (default: FLOTILLA_MODEL, else the embedded model)\n"
    "  --workers N            worker ranks (default: one for each NUMA node)\n"
    "  --stages S             pipeline stages, 1 to N (default: N)\n"
    "  --threads T            compute threads of each worker (default: the cores of its share)\n"
    "  --memory BYTES         what a worker may hold, e.g. 24G (default: 85 % of its share's free "
    "memory)\n"
    "  --hosts a:2,b:2|FILE   hosts and their workers, or an MPI hostfile (default: this machine)\n"
    "  --cluster FILE         a cluster description (cluster-configs/)\n"
    "  --interface NAME|CIDR  network that MPI uses between hosts\n"
    "  --kv-tokens N          capacity of the KV cache over all sequences\n"
    "  --load-format FORMAT   safetensors, or dummy: seeded random weights (default: safetensors)\n"
    "  --weights bf16         --activations f32         the only formats until now\n"
    "  --no-speech, --no-media  leave these parts of the model out\n"
    "  --max-media-pixels N   larger pictures and frames are refused undecoded (default: "
    "67108864)\n"
    "  --allow-media-urls     media may be named by http and https URLs too (public addresses "
    "only)\n"
    "  --deterministic        the same floating-point order for every split of a stage\n"
    "\n"
    "  --quiet                only warnings and errors       --verbose  also what mpirun says\n";

static const char sampling_page[] =
    "\n"
    "Sampling (defaults: the checkpoint's generation_config.json, else greedy):\n"
    "  --max-new-tokens N     length of the answer at most (default: 1024)\n"
    "  --temperature X        0: greedy\n"
    "  --top-k N  --top-p X  --min-p X  --repetition-penalty X  --seed N\n"
    "  --ignore-eos           go on to the full length\n";

/* Of generate and chat. */
static const char media_page[] =
    "\n"
    "Pictures, sound, video (F: a file, a data: URL; http needs --allow-media-urls; may be "
    "repeated):\n"
    "  --image F  --audio F   JPEG, PNG, WebP, GIF; WAV, FLAC, Ogg, MP3, M4A, WebM\n"
    "  --video F              what FFmpeg reads, or a folder of numbered pictures\n"
    "  --use-audio-in-video   hear the videos too: their sound track, or the k-th --audio for the "
    "k-th\n"
    "                         video where it has none\n"
    "  --image-min-pixels N   --image-max-pixels N      the sizes that pictures are brought into\n"
    "  --video-min-pixels N   --video-max-pixels N      likewise a video's frames\n"
    "                         (defaults: the checkpoint's preprocessor_config.json)\n"
    "  --video-fps R          frames taken of a second (default: 2)\n"
    "  --video-all-frames     take them all\n"
    "  --recorded-fps R       what a folder of pictures was recorded at\n";

/* Of generate, speak and chat. */
static const char speech_page[] =
    "  --speaker NAME         whose voice (default: Ethan); flotilla inspect lists them\n"
    "  --speech-mode MODE     exact: the reference's samples, which lose 23 ms at every 24 s; "
    "seamless:\n"
    "                         nothing is lost (default: exact for a file, seamless for a stream)\n"
    "  --talker-temperature X (0.9)   --talker-top-k N (50)   --talker-top-p X (1.0)\n"
    "  --talker-repetition-penalty X (1.05)\n"
    "  --talker-greedy        the likeliest codes, no draws\n"
    "  --talker-max-new-tokens N      frames of sound at most, 12.5 a second (4096)\n";

static const char generate_page[] =
    "flotilla generate (--prompt TEXT | --prompt-file F | --prompt-ids 1,2,3 | --messages F) "
    "[options]\n"
    "\n"
    "Answers one prompt. The text goes to standard output as it is made.\n"
    "\n"
    "Prompt (- as F: standard input):\n"
    "  --prompt TEXT          a user message; --prompt-file F: from a file\n"
    "  --system TEXT          a system message before it\n"
    "  --raw                  the text as it is, without the chat template\n"
    "  --prompt-ids 1,2,3     token ids as they are\n"
    "  --messages F           JSON: a list of chat messages, or {\"messages\": [...], \"tools\": "
    "[...], ...}\n"
    "                         with the template's options beside them; parts of a message may "
    "name\n"
    "                         media, as {\"type\": \"image\", \"image\": F}, or take the next "
    "--image\n"
    "  With --prompt the media stand before the text; with --raw and --prompt-ids each takes the "
    "next\n"
    "  placeholder of its kind.\n"
    "\n"
    "Output:\n"
    "  --json                 one JSON document at the end: ids, text, finish_reason, timing, "
    "memory, plan\n"
    "  --logprobs K           with --json: log-probabilities of each token and of the K best (0 to "
    "20)\n"
    "  --dump F.safetensors   tensors of the prompt pass: hidden states, router choices, logits,\n"
    "                         what the encoders were given and made, what was spoken\n"
    "\n"
    "Speech (without --speech the talker is left out of the job):\n"
    "  --speech F.wav|-       says the answer aloud, into a WAV file (24 kHz, 16 bits, mono) that "
    "is "
    "there\n"
    "                         when it is whole; -: WAV to standard output as it is made, the text "
    "to\n"
    "                         standard error\n";

static const char generate_end[] =
    "\n"
    "Examples:\n"
    "  flotilla generate --prompt \"What is the capital of France?\"\n"
    "  flotilla generate --image photo.jpg --prompt \"What is in the picture?\"\n"
    "  flotilla generate --prompt \"Tell a story.\" --speech - | ffplay -nodisp -autoexit -\n"
    "  flotilla generate --messages chat.json --temperature 0.7 --seed 1 --json | jq -r .text\n"
    "  echo \"Translate to German: good morning\" | flotilla generate --prompt-file - --workers 4\n"
    "\n"
    "Exit status: 0 done; 1 the work failed (damaged file, lost worker, no mpirun); 2 wrong use "
    "(option,\n"
    "file, unreadable medium, empty or too long a prompt, ids out of range); 130 interrupted.\n";

static const char chat_page[] =
    "flotilla chat [options]\n"
    "\n"
    "A conversation, line by line. On a terminal lines can be edited and recalled; lines from a "
    "pipe are\n"
    "answered one by one. Earlier turns stay in the KV cache and are not computed again.\n"
    "\n"
    "  /image F  /audio F  /video F                for the next message; several may be given\n"
    "  /speak on|off                              say the answers aloud\n"
    "  /reset  /save F  /load F  /help  /quit      //TEXT says TEXT with one slash in front\n"
    "  Ctrl-C ends the answer, at the prompt the chat; Ctrl-D ends the chat\n"
    "\n"
    "  --system TEXT          a system message at the beginning\n"
    "  Media given by options go with the first message. A sound keeps, in later turns, the "
    "features "
    "it had\n"
    "  in the turn that brought it.\n"
    "\n"
    "Speech (--no-speech leaves the talker out of the job):\n"
    "  --speech [DIR|PREFIX]  says each answer aloud too, into DIR/answer-1.wav or PREFIX-1.wav "
    "and "
    "so on;\n"
    "                         numbers that are taken are left out (default: the current folder)\n";

static const char speak_page[] =
    "flotilla speak (--text TEXT | --text-file F) [--speech F.wav|-] [options]\n"
    "\n"
    "Says a given text aloud. Nothing is generated but the speech.\n"
    "\n"
    "  --text TEXT            what to say; --text-file F: from a file (- : standard input)\n"
    "  --speech F.wav|-       a WAV file (24 kHz, 16 bits, mono); -: standard output, as it is "
    "made\n"
    "                         (default: standard output where that is a pipe or a file, else, and "
    "with\n"
    "                         --json, speech.wav in the current folder)\n"
    "  --seed N               the same seed gives the same speech\n"
    "  --json                 one JSON document on standard output: codes, number of samples, "
    "timing\n";

static const char speak_heading[] = "\nSpeech:\n";

static const char speak_end[] =
    "\n"
    "Examples:\n"
    "  flotilla speak --text \"Good morning.\" --speech morning.wav --speaker Chelsie\n"
    "  flotilla speak --text-file story.txt | aplay\n"
    "\n"
    "Exit status: 0 done; 1 the work failed (full disk, closed pipe, lost worker); 2 wrong use "
    "(option,\n"
    "unknown speaker, a model without a talker, an empty text); 130 interrupted.\n";

static const char chat_end[] = "\n"
                               "Examples:\n"
                               "  flotilla chat --system \"Answer in one sentence.\"\n"
                               "  flotilla chat --audio question.wav\n"
                               "  printf 'Hello\\n/save talk.json\\n' | flotilla chat --quiet\n"
                               "\n"
                               "Exit status: 0 ended by /quit or Ctrl-D; 1 the job was lost; 2 "
                               "wrong use; 130 interrupted. With input\n"
                               "from a pipe also the status of the first turn that failed.\n";

static const char bench_page[] =
    "flotilla bench [--encoders] [--speech] [options]\n"
    "\n"
    "Encodes noise of a given size, or speaks a given number of frames, some times, and measures "
    "beside it,\n"
    "in the same run and with the same threads, how fast the machine multiplies and adds in f32 "
    "and "
    "reads\n"
    "memory. What is not measured is left out of the job.\n"
    "\n"
    "  --encoders             pictures and sound in\n"
    "  --speech               speech out: frames a second (12.5 are as fast as a person listens), "
    "and each\n"
    "                         part's share of the time beside what its bytes or arithmetic allow\n"
    "  --frames N             frames that each speaker speaks    --speakers N   at a time (1)\n"
    "  --image-size WxH       picture, sides multiples of 32 (default: 1024x1024)\n"
    "  --audio-seconds N      sound (default: 40)\n"
    "  --repeat N             rounds beside one to warm up (default: 3)\n"
    "  --layers N             take the first N thinker layers only, where memory is short\n"
    "  --json                 one JSON document on standard output\n";

static const char bench_end[] =
    "\n"
    "Example, without a checkpoint (a folder with its config.json is enough):\n"
    "  flotilla bench --encoders --model DIR --load-format dummy --layers 1 --workers 1\n"
    "  flotilla bench --speech --model DIR --load-format dummy --layers 1 --workers 1\n";

static const char verify_page[] =
    "flotilla verify --golden DIR [--only SECTION,SECTION] [options]\n"
    "\n"
    "Computes every reference case of a folder (case.json and tensors.safetensors) and prints the "
    "largest\n"
    "and the allowed difference of each tensor, and at the end how much was compared.\n"
    "\n"
    "  --golden DIR           the reference cases\n"
    "  --only thinker,chat    these sections of it alone\n";

static const char verify_end[] = "\n"
                                 "Example:\n"
                                 "  flotilla verify --model tests/golden/tiny-omni --golden "
                                 "tests/golden --only thinker --workers 3\n"
                                 "\n"
                                 "Exit status: 0 all within the allowed difference; 1 the work "
                                 "failed; 2 wrong use; 3 a difference, a\n"
                                 "missing file, or a section that was not run; 130 interrupted.\n";

typedef struct page {
    const char *command;
    const char *parts[7];
} page;

static const page pages[] = {
    {"generate",
     {generate_page, speech_page, media_page, sampling_page, run_options_page, generate_end}},
    {"speak", {speak_page, speak_heading, speech_page, run_options_page, speak_end}},
    {"chat", {chat_page, speech_page, media_page, sampling_page, run_options_page, chat_end}},
    {"verify", {verify_page, run_options_page, verify_end}},
    {"bench", {bench_page, run_options_page, bench_end}},
};

static const char *const main_parts[] = {main_page, NULL};

flo_code command_help(const char *command, flo_err *err)
{
    const char *const *parts = main_parts;
    for (size_t i = 0; command != NULL && i < sizeof pages / sizeof pages[0]; i++) {
        if (strcmp(pages[i].command, command) == 0) {
            parts = pages[i].parts;
        }
    }
    bool failed = false;
    for (; *parts != NULL; parts++) {
        failed = failed || fputs(*parts, stdout) < 0;
    }
    if (failed || fflush(stdout) != 0) {
        return flo_fail(err, FLO_FAIL, "standard output cannot be written");
    }
    return FLO_OK;
}
