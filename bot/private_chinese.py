"""Names of people and addresses in Chinese, where nothing stands between words and nothing is a capital."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache

from roost.private_lists import listed
from roost.private_rules import Item

COMPOUND = (
    "欧阳|司马|上官|诸葛|东方|皇甫|尉迟|公孙|慕容|令狐|司徒|夏侯|宇文|长孙|端木|南宫|西门|独孤|歐陽|司馬|諸葛|轩辕"
    "|呼延|申屠|百里"
)
SURNAMES = (
    "王李张刘陈杨赵黄周吴徐孙胡朱高林何郭马罗梁宋郑谢韩唐冯于董萧程曹袁邓许傅沈曾彭吕苏卢蒋蔡贾丁魏薛叶阎余潘杜戴夏"
    "钟汪田任姜范方石姚谭廖邹熊金陆郝孔白崔康毛邱秦江史"
    "顾侯邵孟龙万段雷钱汤尹黎易常武乔贺赖龚文庞樊兰殷施陶洪翟安颜倪严牛温芦季俞章鲁葛伍韦申尤毕聂丛焦向柳邢路岳齐沿"
    "梅莫庄辛管祝左涂谷祁时舒耿牟卜路詹关苗凌费纪靳盛童欧"
    "甄项曲成游阳裴席卫查屈鲍位覃霍翁隋植甘景薄单包司柏宁柯阮桂闵解强柴华车冉房边辜吉饶刁瞿戚丘古米池滕晋苑邬臧畅宫"
    "来嵺苟全褚廉简娄盖符奚木穆党燕郎邸冀谈姬屠连郜晏栾郁商"
    "蒙计喻揭窦迟宇敖糜鄢冷卓花仇艾蓝都巩稽井练仲乐虞卞封竺冼原官衣楚佟栗匡宗应台巫鞠僧桑荆谌银扬明沙薄伏岑习胥保和蔺"
    "張劉陳楊趙黃吳孫馬羅鄭謝韓馮蕭鄧許傅呂蘇盧蔣賈葉閻鐘陸顧龍萬錢湯賴龔"
)
# Every character that the giving of names likes, so that 高兴 and 方法 are not taken for people.
GIVEN = (
    "伟芳娜秀英敏静丽强磊军洋勇艳杰娟涛明超兰霞平刚桂文辉玲华红玉春梅建国志海云龙波宇浩凯轩梓涵欣怡雨佳俊子豪嘉晨思"
    "雪琳婷慧颖倩洁莹鑫鹏飞斌晓晶莉萍淑珍凤荣宁燕琴蓉"
    "瑶琪瑞博睿泽昊天阳旭东峰亮健康永成立新庆林松柏森炎焱坤乾德仁义礼信忠孝良善美爱惠雅诗梦璐露薇蕾菲妍媛婉茜莎珊瑜"
    "瑾璇彤萱芷若欢悦乐凡帆航翔羽翼宏伦正昌盛兴发财富贵祥"
    "福寿禄喜吉安顺利民生光耀祖宗世家学诚毅恒远达通凌寒冰霜月星辰风雷震霆岩石川江河湖海洲沛泓润清淳澜沁淇润源滨楠桐"
    "枫楷栋梁权树根苗茂芝芬芸苑菁菊荷莲蓓蕊丹彩虹霓紫青碧翠"
    "银金铭锋钢铁钧锐镇锦秋冬夏一二三小大少奇琦琛琼瑛璟珠珂玥珏珺瑗意愿念恩慈怀悠惟忆心音韵乔依伊佩俐俏倪倾偲健儒元"
    "兆先克冠勤勋劲励卓博卫双叔可君吟启哲唯善喆嘉园圣培基堂"
    "士壮夏如妙姗姝姣娅娇娥婧媚嫣孟季宜宛宝实宸宾寅尧展山岚岳峥崇巍川州巧帅常广庭延弘弛彦彪彬彭征徽忻怡恬恺悦惜慕懿"
    "戈成才扬承振捷敬敦斯方昀昂昕昭晔晖智晟暄曦朋朝本来杏杨"
    "柔柯柳栩桃梨棋榕欧歌殊毓水汉汝沐沙法泉泰洛津浦涌淼渊温湘溪滔漫潇澄烨焕煊煜熙照熠爽特狄玄玫珑理琬琰瑄瑶璞璨甜田"
    "申画畅畹登百皓盈相真知石硕磊禹禾秉程稳穗立竹笑筠策简米素"
    "纪纯纲绍绪维绮缘罗群翰聪育胜胤臣舒航良艺节芮苏范茵茹荟莱菡葳蒙蓝薪虎蝶行衡裕言训记语誉谦贝贤赫超越跃路轶迎进逸"
    "道郁鸣鸿鹤麒麟黎默鼎齐龄贞玮慧丽靖雯岚娴妮姿"
    "香想桦婵帅洋坚钊铎锴钰鸽雁莺鹃凰荔莓蔓薰荃菱蕙蔷葵芙萌菀苒妤娆娉婕孜屹岱峻弈彧懋戎拓挺攀政旋旖旻昱晋晏普景晗曼"
    "朗望朔朴杉枝樱檀武民沅泊泳洪浚涓淮淳渝溢潮澎灿炜炳烁烈煌牧珉珮琅琢甫男疆皎盟睦瞳祎祐祺穆竞童端纬绵缨羿翎翱耀聆"
    "胤臻舟茗莘蔚蕴衍裔谊谋谨豫赐赛赟辉迅迈迪遥邦鉴铃铮锡锟隆雄雍霄霏靓韬韶颂颐颢飒馨骁骄骏骥鲲"
    "偉麗強軍豔濤蘭剛輝紅鳳榮寧曉鵬飛穎潔瑩億義禮愛詩夢歡樂東陽"
)
TITLE = (
    "先生|女士|小姐|太太|老师|老師|医生|醫生|大夫|经理|總經理|总经理|总监|主任|律师|教授|博士|同学|同事|师傅|阿姨"
    "|叔叔|奶奶|爷爷|大爷|大妈|哥|姐|护士|警官|局长|处长|校长|院长|老板|会计"
    "|总(?![是共结数部之体额计要会能有和算览裁])|总裁"
)
# What a name is written before or after when it stands in a sentence.
LEAD = (
    "我叫|我是|名字是|名字叫|名叫|叫做|姓名(?:是|为)?|我姓名|本人|联系人|收件人|收货人|患者|病人|客户|乘客|户主|租客"
    "|房东|签名|署名|落款|经办人|持卡人|申请人|负责人"
    "|(?:我|他|她|我们|你|咱)(?:的)?(?:老公|老婆|丈夫|妻子|爱人|儿子|女儿|爸爸|妈妈|父亲|母亲|哥哥|姐姐|弟弟|妹妹"
    "|朋友|同事|老板|上司|领导|邻居|医生|律师|老师|同学|室友|男朋友|女朋友|男友|女友|房东|客户|表哥|表姐|表弟|表妹"
    "|舅舅|叔叔|阿姨|爷爷|奶奶|孩子)"
    "(?:叫|是|名叫)?|叫|找|给|跟|和|与|请|问|通知|告诉|联系|让|替|帮|约|同|被|向|为|对|由|把|提醒|致电|认识|见|喜欢"
    "|拜托|陪|感谢|谢谢|如果|假如|要是|因为|虽然|但是|所以|觉得|知道|听说|见到|遇到|碰到|祝|教|等|接|送|拜访|邀请|派"
    "|选|照顾|关于|除了|包括|还有|以及|或|或者|、|看到|只有|连|比|像|欠|还|跟着|属于|来自|记得|希望|建议|喊|嫁给"
    "|和我|认得|夸|怪|介绍|推荐|亲爱的|尊敬的|代"
)
FOLLOW = (
    "说|的|在|是|和|跟|与|给|打|发|来|去|到|住|要|会|也|都|有|想|今|明|昨|下|上|刚|已|没|不|就|还|从|向|把|被|对|请"
    "|能|可|让|问|告|电|手|身|邮|于|因|同|将|很|最|又|正|吗|呢|吧|了|先|女|老|医|经|生|出|欠|借|喜|送|约|寄|搬|坐|转"
    "|负|患|得|确|用|每|周|预|需|吃|喝|看|做|开|走|买|卖|写|读|听|学|工|回|认|帮|教|找|见|谈|聊|玩|病|受|收|签|付|拿"
    "|带|租|当|过|结|离|这|那|谁|么|啊|呀|嘛|喊|叫|约|答|同|该|应|愿|觉|希|打|总|只|再|才|又|而|但|却|以|为|并|每|每"
    "|什|怎|几|多|太|真|好|接|等|拍|换|订|办|管|安|参"
)
HAN = "\u3400-\u9fff"
NAME = rf"(?:(?:{COMPOUND})[{HAN}]{{1,2}}|[{SURNAMES}][{HAN}]{{1,2}}|[{SURNAMES}]·?[{GIVEN}]{{2}})"
STRICT = rf"(?![向和连都来时应明全原])(?:(?:{COMPOUND})[{GIVEN}]{{1,2}}|[{SURNAMES}][{GIVEN}]{{1,2}})"
EDGE = rf"(?=[^{HAN}]|$|{FOLLOW}|{TITLE})"
SURE = (
    "我叫|名字是|名字叫|名叫|叫做|姓名(?:是|为)?|联系人|收件人|收货人|患者|客户|持卡人|申请人|负责人|经办人|户主"
    "|签名|署名|落款|本人"
)
SAID = re.compile(
    rf"(?:{SURE})[ ]?[:：]?[ ]?(?P<it>{NAME}?){EDGE}|(?:{SURE})[ ]?[:：]?[ ]?(?P<long>(?:{COMPOUND})[{HAN}]{{1,2}}"
    rf"|[{SURNAMES}][{GIVEN}]{{1,2}})"
)
CUED = re.compile(rf"(?:{LEAD})[ ]?[:：]?[ ]?(?P<it>{STRICT}){EDGE}")
ALONE = re.compile(rf"(?:(?<![{HAN}])|(?<=[的了在呢吧吗]))(?P<it>{STRICT}){EDGE}")
TITLED = re.compile(rf"(?P<it>(?:{COMPOUND})[{HAN}]{{0,2}}?|[{SURNAMES}][{GIVEN}]{{0,2}}?)(?={TITLE})")
FAMILIAR = re.compile(
    rf"(?:(?<![{HAN}])|(?<=[说和跟与给找让请叫问的]))(?P<it>[小老阿][{SURNAMES}])(?=[^{HAN}]|$|{FOLLOW})|(?:我叫"
    rf"|叫我|联系|告诉|问问|跟|给|找)(?P<too>[小老阿][{SURNAMES}])(?={FOLLOW}|[^{HAN}]|$)"
)
FOREIGN = re.compile(
    rf"(?:我叫|名叫|叫做|名字是|姓名[:：])(?P<it>[{HAN}]{{2,4}}·[{HAN}]{{2,6}})"
    rf"|(?<![{HAN}])(?P<too>[{HAN}]{{2,4}}·[{HAN}]{{2,6}})(?![{HAN}])"
)
LATIN = re.compile(
    r"(?:我叫|我是|名字是|英文名(?:是|叫)?|姓名[:：])[ ]?(?P<it>[A-Z][a-z]{1,20}(?: [A-Z][a-z]{1,20}){0,2})"
)
REGION = rf"[{HAN}]{{2,8}}?(?:省|自治区|特别行政区|市|自治州|地区|盟|区|县|旗|镇|乡|街道|村)"
DOOR = (
    r"(?:[ ]?(?:\d{1,5}|[一二三四五六七八九十百]{1,4}|[A-Za-z]\d{0,4})(?:[-－]\d{1,5}){0,3}(?:号楼|号院|号|號|弄|栋"
    r"|幢|座|楼|层|单元|室|房|门牌|户|院|期|巷))"
)
ROAD = (
    rf"[{HAN}]{{1,10}}?(?:大道|大街|公路|路|街|巷|胡同|弄|里|道|村|屯|小区|花园|新村|家园|苑|公寓|大厦|广场|园区"
    rf"|工业园)"
)
PLACE = re.compile(
    rf"(?P<it>(?:{REGION}){{0,4}}(?:{ROAD}){{1,2}}(?:[东西南北中]?[一二三四五]?段)?{DOOR}{{1,5}}(?:[{HAN}]{{1,8}}?(?"
    rf":小区|花园|大厦|公寓|广场|家园|苑){DOOR}{{0,4}})?(?:[ ]?\d{{3,4}}(?:室|房)?(?!\d))?"
    rf"|(?:{REGION}){{2,4}}[{HAN}]{{0,10}}?{DOOR}{{1,5}})"
)
# What may stand before an address without being of it.
BEFORE = re.compile(
    r".*(?:地址[:：是为在]?|住址[:：是为在]?|住在|家住|住|位于|送到|寄到|寄往|搬到|搬去|家在|就在|公司在|在|到|至|从"
    r"|去|是|给|了|[:：，])"
)


def chinese_names(text: str) -> Iterator[Item]:
    """Names after a cue, before a title, or standing free where they look like nothing else."""
    for pattern, sensitivity in (
        (SAID, 0.45),
        (CUED, 0.45),
        (ALONE, 0.4),
        (TITLED, 0.35),
        (FAMILIAR, 0.3),
        (FOREIGN, 0.4),
        (LATIN, 0.45),
    ):
        for match in pattern.finditer(text):
            start, end = match.span(match.lastgroup) if match.lastgroup else (0, 0)
            if start < end and not word(text, start, end, pattern is SAID):
                yield Item("name", start, end, sensitivity)


@cache
def words() -> frozenset[str]:
    """Words that look like names, of `private_words.txt`."""
    return frozenset(listed("private_words.txt")[""])


def word(text: str, start: int, end: int, said: bool) -> bool:
    """Whether what looks like a name is a word, or reaches into the word that follows."""
    found = text[start:end]
    if found in words() or (not said and found[:2] in words()) or text[start : start + 2] in words():
        return True
    return not said and len(found) == 2 and text[start : end + 1] in words()


def chinese_addresses(text: str) -> Iterator[Item]:
    """From the province, or wherever the writer begins, to the door."""
    if re.search("[号號室栋幢弄楼座]", text) is None:
        return
    for match in PLACE.finditer(text):
        lead = BEFORE.match(text, match.start(), match.end())
        start = lead.end() if lead and lead.end() < match.end() - 3 else match.start()
        yield Item("address", start, match.end(), 0.6)
