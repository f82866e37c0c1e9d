package systemd

import "message-cleanup/internal/cleanup"

// messageIDs gives each kind of event its MESSAGE_ID: what monitoring matches
// on (`journalctl MESSAGE_ID=...`), and the key of the explanations that
// `journalctl -x` shows. Both are written down in other people's systems, so an
// id is never changed, and never given to another event.
//
// The ids are random 128-bit numbers, as
// https://www.freedesktop.org/software/systemd/man/latest/systemd.journal-fields.html
// asks for; `systemd-id128 new` makes one for a new event.
var messageIDs = map[string]string{
	cleanup.EventRunStarted:     "4febfcb837584e1fb5417201575b5f91",
	cleanup.EventRunFinished:    "8d5437a0bbd244ac8b8ad26c44bc7634",
	cleanup.EventRunFailed:      "56f9993d4d904623afb672f14b132c21",
	cleanup.EventPlanned:        "923fb7a11dea4ec4b4a40687d4c49f21",
	cleanup.EventWarning:        "a52d8cadc35846ffb299c918df177cd8",
	cleanup.EventPolicyFinished: "81ac274c09294b8fb45c8d121bf60917",
	cleanup.EventPolicyFailed:   "729e8d96f7c64a8e8e2788e86ab09c6a",
	cleanup.EventBatch:          "863ec918fcbf4ea08a7e8562389f2ac2",
	cleanup.EventDropped:        "9059f3be45f84b33a6425b4c0f395853",
	cleanup.EventRetry:          "c04b2ff4e3ac472ab1d39ca8cec4bf81",
	cleanup.EventLocked:         "d6fe848ac84f44e6bc31f0f149471748",
	cleanup.EventRefused:        "55c752e6a195498fa1847781ce91cf9a",
	cleanup.EventTooLong:        "eb398d2cdf4a4568a2c5e1970a7aaf05",
	cleanup.EventNotDropped:     "ec02a7cf85ad466a8d1e75d40896edb7",
	cleanup.EventWaiting:        "dce8fa3ae3b642fdb2057a12221de652",
	cleanup.EventCompany:        "34cf98b089004f16a9d0d253e49495ab",
	cleanup.EventSlowed:         "63ab604d12e94bb4b22d4ef60d941e46",
	cleanup.EventPaused:         "9e403c3f01e24bf0926642d60ad789dc",
	cleanup.EventPauseEnded:     "cc97f7e9bcf540dc85d549c8f8b3a6ad",
	cleanup.EventHeldBack:       "027406c709e64ffbbece6f0ed4b51790",
	cleanup.EventVacuumed:       "4277f1152b864e08b6b93da67049e4b8",
	cleanup.EventUnfinished:     "675c238776414d68ab172dd4eed18512",
	cleanup.EventNoMetrics:      "3ab69ff893224002914a6eaeaf64403e",
	cleanup.EventStopping:       "657b0b6eb84842aa80a7e40bfab186e6",
	cleanup.EventScheduled:      "775b9c2f80634baf8f98145369258fcc",
	cleanup.EventScheduleEnded:  "4de2cfdb624b4bc58869746e49c52d8d",
}
