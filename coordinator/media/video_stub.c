#include "coordinator/media/video.h"
flo_code video_open(video **v, const media_source *s, double r, uint64_t p,flo_err *err){(void)v;(void)s;(void)r;(void)p;return flo_fail(err,FLO_USAGE,"no video yet");}
void video_close(video *v){(void)v;}
const video_facts *video_facts_of(const video *v){(void)v;return 0;}
flo_code video_choose(int64_t *i, int32_t *n, int32_t m, const video_facts *f,const video_sampling *s, flo_err *err){(void)i;(void)m;(void)s;(void)err;*n=(int32_t)f->n_frames;for(int32_t k=0;k<*n;k++)i[k]=k;return FLO_OK;}
flo_code video_read(video *v, uint8_t *out, const int64_t *i, int32_t n, int32_t w,int32_t h, int32_t t, const volatile bool *c, flo_err *err){(void)v;(void)out;(void)i;(void)n;(void)w;(void)h;(void)t;(void)c;(void)err;return FLO_FAIL;}
