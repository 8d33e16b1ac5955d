"""The formats that are read, with the suffixes of their files.

Files are recognised by their content. Suffixes only matter when a folder is searched.
"""

from __future__ import annotations

#: FFmpeg's demuxers that open a single file, with the suffixes of their videos. Playlists and scripts (concat, hls,
#: dash, sdp, lavfi) are excluded: they make FFmpeg open any file they name. Demuxers without suffixes share those of
#: another, or mostly read sound.
DEMUXERS = {
    "mov": "mov qt mp4 m4v mp4v mpg4 3gp 3gpp 3g2 3gp2 mj2 mjp2 f4v ism ismv psp mqv insv lrv heics avifs 360",
    "matroska": "mkv mk3d",
    "webm": "webm",
    "avi": "avi divx xvid",
    "mpegts": "ts m2t m2ts mts tod trp tp",
    "mpeg": "mpg mpeg mpe vob mod m2p evo",
    "mpegvideo": "m1v m2v mpv",
    "m4v": "",
    "flv": "flv",
    "live_flv": "",
    "asf": "asf wmv dvr-ms",
    "ogg": "ogv ogm",
    "nut": "nut",
    "mxf": "mxf",
    "ivf": "ivf",
    "obu": "obu",
    "av1": "",
    "h261": "h261",
    "h263": "h263",
    "h264": "h264 264 avc h26l",
    "hevc": "hevc h265 265",
    "vvc": "vvc h266 266",
    "vc1": "vc1",
    "cavsvideo": "cavs",
    "dirac": "drc",
    "mjpeg": "mjpg mjpeg",
    "yuv4mpegpipe": "y4m",
    "rm": "rm rmvb",
    "dv": "dv dif",
    "gxf": "gxf",
    "wtv": "wtv",
    "nsv": "nsv",
    "swf": "swf",
    "amv": "amv",
    "apng": "apng",
    "bink": "bik bk2",
    "smk": "smk",
    "roq": "roq",
    "asf_o": "",
    "kux": "kux",
    "mpjpeg": "",
    "smjpeg": "",
    "mxg": "mxg",
    "mjpeg_2000": "",
    "dnxhd": "dnxhd",
    "apv": "apv",
    "ipu": "ipu",
    "vc1test": "rcv",
    # old recorders, cameras and players
    "cine": "cine",
    "dhav": "dav",
    "ivr": "ivr",
    "lxf": "lxf",
    "moflex": "moflex",
    "nuv": "nuv",
    "pva": "pva",
    "ser": "ser",
    "ty": "ty",
    "vivo": "viv",
    **dict.fromkeys(
        "frm hxvs ifv ingenient iv8 lmlm4 luodat lvf mods msnwctcp mtv nc pmp r3d sdr2 vividas".split(),  # noqa: SIM905
        "",
    ),
    # games and animations
    "flic": "fli flc flx",
    "thp": "thp",
    "usm": "usm",
    "wsvqa": "vqa",
    **dict.fromkeys(
        (  # noqa: SIM905
            "4xm anm argo_brp avs bethsoftvid bfi bmv c93 cdg cdxl dfa dsicin dxa ea film_cpk filmstrip gdv hnm idcin "
            "iff ipmovie jv mgsts mm mv mvi paf pdv psxstr rl2 rpl sga siff simbiosis_imx smush tiertexseq tmv txd "
            "wc3movie xmv yop"
        ).split(),
        "",
    ),
    # images that this package doesn't read with Pillow
    "fits": "",
    **dict.fromkeys(
        (  # noqa: SIM905
            "alias_pix brender_pix cri_pipe dds_pipe dpx_pipe exr_pipe gem_pipe hdr_pipe ico j2k_pipe jpegls_pipe "
            "pam_pipe pcx_pipe pfm_pipe pgmyuv_pipe pgx_pipe phm_pipe photocd_pipe pictor_pipe psd_pipe qdraw_pipe "
            "qoi_pipe sgi_pipe sunrast_pipe vbn_pipe xbm_pipe xpm_pipe xwd_pipe"
        ).split(),
        "",
    ),
    # sound, recognised in order to refuse it with the right message
    **dict.fromkeys("mp3 wav w64 flac aac ac3 eac3 aiff caf amr dts au ape wv tta".split(), ""),  # noqa: SIM905
}

#: Suffixes of images that can be the frames of a folder's video.
IMAGE_SUFFIXES = frozenset(
    ".avif .bmp .dib .gif .jfif .jpe .jpeg .jpg .mpo .pbm .pfm .pgm .png .pnm .ppm .tif .tiff .webp".split()  # noqa: SIM905
)

_ANIMATED_IMAGES = frozenset({".gif", ".webp"})

#: Suffixes of videos, and of images that are mostly animated.
VIDEO_SUFFIXES = frozenset(f".{suffix}" for suffixes in DEMUXERS.values() for suffix in suffixes.split()) | (
    _ANIMATED_IMAGES
)

#: Suffixes of images that may be animated; only the content shows it.
MAY_BE_ANIMATED = frozenset({".gif", ".webp", ".png", ".apng", ".avif", ".avifs", ".heic", ".heif", ".heics"})

#: Video suffixes that text files have too (TypeScript, Go and Fortran modules).
MAY_BE_TEXT = frozenset({".ts", ".mts", ".mod"})

ARRAY_SUFFIX = ".npy"
